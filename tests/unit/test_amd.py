"""Certificates of processors, as no maker issues them; genuine ones: test_genuine_confidential."""

import pytest

from aicert import amd
from aicert.errors import EvidenceError
from tests.adversarial import chip_forge
from tests.adversarial.ca_forge import AT, rsa_key


def test_a_chip_certificate_says_which_chip_at_which_versions() -> None:
    chip = amd.certify_chip(chip_forge.vcek(), chip_forge.makers(), AT)
    assert (chip.chip_id, chip.tcb, chip.root.name) == (
        chip_forge.CHIP_ID,
        chip_forge.TCB,
        "test chips",
    )
    assert amd.tcb_text(chip.tcb) == "bootloader 10, tee 0, snp 27, microcode 86"


@pytest.mark.parametrize(
    "value", ["", "0201", "020101ff", "03010a", "02020100", "0203000001", "0a0101", "020180"]
)
def test_a_version_is_an_integer_of_one_octet(value: str) -> None:
    said = chip_forge.chip_extensions() | {"3.5": bytes.fromhex(value)}
    with pytest.raises(EvidenceError, match="for which firmware versions"):
        amd.certify_chip(chip_forge.vcek(extensions=said), chip_forge.makers(), AT)


@pytest.mark.parametrize("head", [b"\x04\x40", b"\x04\x3e"])
def test_a_chip_id_may_begin_like_an_octet_string(head: bytes) -> None:
    chip_id = head + chip_forge.CHIP_ID[2:]
    said = chip_forge.chip_extensions(chip_id)
    der = chip_forge.vcek(extensions=said)
    assert amd.certify_chip(der, chip_forge.makers(), AT).chip_id == chip_id
    for odd in (
        chip_id[:63],
        b"\x04\x41" + chip_id,
        b"\x04\x40" + chip_id + b"\0",
        b"\x04" + chip_id,
    ):
        der = chip_forge.vcek(extensions=chip_forge.chip_extensions(odd))
        with pytest.raises(EvidenceError, match="of which chip"):
            amd.certify_chip(der, chip_forge.makers(), AT)


def test_versions_above_127_have_a_sign_octet() -> None:
    tcb = bytes((255, 128, 0, 0, 0, 0, 127, 200))
    der = chip_forge.vcek(extensions=chip_forge.chip_extensions(tcb=tcb))
    assert amd.certify_chip(der, chip_forge.makers(), AT).tcb == tcb


def test_serial_numbers_are_read_as_they_are() -> None:
    for serial in (0, 1, 127):
        amd.certify_chip(chip_forge.vcek(serial=serial), chip_forge.makers(), AT)
    with pytest.raises(EvidenceError, match="serial number is negative"):
        amd.certify_chip(chip_forge.vcek(serial=-1), chip_forge.makers(), AT)


def test_a_known_extension_says_nothing_of_chips() -> None:
    # A subject key identifier where AMD has none: read past.
    extensions = chip_forge.chip_extensions()
    der = chip_forge.issue(
        "SEV-VCEK", chip_forge.chip_key(), issuer=chip_forge.ASK,
        issuer_key=rsa_key("amd ask"), ca=False, extensions=extensions,
        identifier=True,
    )  # fmt: skip
    assert amd.certify_chip(der, chip_forge.makers(), AT).chip_id == chip_forge.CHIP_ID
