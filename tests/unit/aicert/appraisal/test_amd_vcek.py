"""Processor certificates that no maker issues; test_genuine_confidential has genuine ones."""

from dataclasses import replace

import pytest

from aicert.appraisal.evidence import amd_vcek
from aicert.appraisal.evidence.accepted import ChipRoot
from aicert.errors import EvidenceError
from tests.adversarial import chip_forge
from tests.adversarial.ca_forge import AT, ec_key, issue, rsa_key


def test_a_chip_certificate_says_which_chip_at_which_versions() -> None:
    chip = amd_vcek.certify_chip(chip_forge.vcek(), chip_forge.makers(), AT)
    assert (chip.chip_id, chip.tcb, chip.root.name) == (
        chip_forge.CHIP_ID,
        chip_forge.TCB,
        "test chips",
    )
    assert amd_vcek.tcb_text(chip.tcb) == "bootloader 10, tee 0, snp 27, microcode 86"


@pytest.mark.parametrize(
    "value", ["", "0201", "020101ff", "03010a", "02020100", "0203000001", "0a0101", "020180"]
)
def test_a_version_is_an_integer_of_one_octet(value: str) -> None:
    extensions = chip_forge.chip_extensions() | {"3.5": bytes.fromhex(value)}
    with pytest.raises(EvidenceError, match="does not name firmware versions"):
        amd_vcek.certify_chip(chip_forge.vcek(extensions=extensions), chip_forge.makers(), AT)


@pytest.mark.parametrize("head", [b"\x04\x40", b"\x04\x3e"])
def test_a_chip_id_may_begin_like_an_octet_string(head: bytes) -> None:
    chip_id = head + chip_forge.CHIP_ID[2:]
    extensions = chip_forge.chip_extensions(chip_id)
    der = chip_forge.vcek(extensions=extensions)
    assert amd_vcek.certify_chip(der, chip_forge.makers(), AT).chip_id == chip_id
    for odd in (
        chip_id[:63],
        b"\x04\x41" + chip_id,
        b"\x04\x40" + chip_id + b"\0",
        b"\x04" + chip_id,
    ):
        der = chip_forge.vcek(extensions=chip_forge.chip_extensions(odd))
        with pytest.raises(EvidenceError, match="does not name a chip"):
            amd_vcek.certify_chip(der, chip_forge.makers(), AT)


def test_versions_above_127_have_a_sign_octet() -> None:
    tcb = bytes((255, 128, 0, 0, 0, 0, 127, 200))
    der = chip_forge.vcek(extensions=chip_forge.chip_extensions(tcb=tcb))
    assert amd_vcek.certify_chip(der, chip_forge.makers(), AT).tcb == tcb


def test_serial_numbers_are_read_as_they_are() -> None:
    for serial in (0, 1, 127, 128, 300, 2**159 - 1):
        amd_vcek.certify_chip(chip_forge.vcek(serial=serial), chip_forge.makers(), AT)
    with pytest.raises(EvidenceError, match="serial number is negative"):
        amd_vcek.certify_chip(chip_forge.vcek(serial=-1), chip_forge.makers(), AT)


def test_a_known_extension_says_nothing_of_chips() -> None:
    # A subject key identifier, which AMD leaves out, is ignored.
    extensions = chip_forge.chip_extensions()
    der = chip_forge.issue(
        "SEV-VCEK", chip_forge.chip_key(), issuer=chip_forge.ASK,
        issuer_key=rsa_key("amd ask"), ca=False, extensions=extensions,
        identifier=True,
    )  # fmt: skip
    assert amd_vcek.certify_chip(der, chip_forge.makers(), AT).chip_id == chip_forge.CHIP_ID


def refusal(der: bytes, makers: tuple[ChipRoot, ...]) -> str:
    with pytest.raises(EvidenceError) as caught:
        amd_vcek.certify_chip(der, makers, AT)
    return caught.value.message


def test_errors_say_of_which_certificate_they_are() -> None:
    (maker,) = chip_forge.makers()
    der = chip_forge.vcek()
    first = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00", 1)
    assert refusal(first, (maker,)) == "the chip certificate is not an X.509 version 3 certificate"
    unsound = der.replace(b"\x55\x04\x03", b"\x55\x04\xff")
    assert refusal(unsound, (maker,)).startswith("the chip certificate is not a well-formed X.509 ")
    weak = issue("x", rsa_key("weak", 1024), issuer="x", issuer_key=ec_key("ca"))
    for broken, name in ((replace(maker, issuer=weak), "ASK"), (replace(maker, root=weak), "ARK")):
        assert refusal(der, (broken,)) == f"test chips: {name}: an RSA key of 1024 bits"


def test_makers_that_did_not_issue_a_chip_are_named() -> None:
    (maker,) = chip_forge.makers()
    der = chip_forge.vcek(issuer_key=rsa_key("amd ark"))
    assert refusal(der, (maker, replace(maker, name="other"))) == (
        "the chip certificate was not issued by any of this policy's makers: test chips, other"
    )
