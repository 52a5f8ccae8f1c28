"""The parsers behind platform.*, given what no genuine machine gives."""

import pytest

from aicert import amd, hcl, snp
from aicert.errors import EvidenceError
from tests.adversarial import chip_forge
from tests.adversarial.ca_forge import AT, rsa_key
from tests.adversarial.forger import Scene


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


def test_report_fields_stand_where_the_specification_says() -> None:
    report = snp.parse(Scene("confidential").get("snp_signed"))
    assert (report.guest_svn, report.policy, report.vmpl) == (chip_forge.SVN, 0x3001F, 0)
    assert (report.id_key, report.tcb) == (chip_forge.ID_KEY, chip_forge.TCB)
    assert report.chip_id == chip_forge.CHIP_ID
    assert len(report.signed) == 0x2A0
    snp.check_guest(report)


@pytest.mark.parametrize("size", [0, 1183, 1185])
def test_a_report_has_one_size(size: int) -> None:
    with pytest.raises(EvidenceError, match="1184 bytes"):
        snp.parse(bytes(size))


def test_what_wraps_a_report_is_taken_apart() -> None:
    scene = Scene("confidential")
    read = hcl.parse(scene.get("hcl"))
    assert (read.hardware, read.runtime) == (scene.get("snp_signed"), scene.get("runtime"))
    assert hcl.report_data(read.runtime) == scene.get("report_data")
    numbers = rsa_key("ak").public_key().public_numbers()
    assert hcl.attestation_key(read.runtime) == (numbers.n, numbers.e)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "an object is wanted"),
        (b"{}", "keys is missing"),
        (b'{"keys":[3]}', "an object is wanted"),
        (b'{"keys":[' + b"{}," * 8 + b"{}]}", "more than 8 items"),
        (b'{"keys":[],"keys":[]}', "given twice"),
        (b'{"keys":[{"kid":"HCLAkPub","kty":"EC"}]}', "kty is not 'RSA'"),
        (b'{"keys":[{"kid":"HCLAkPub","kty":"RSA"}]}', "n is missing"),
        (b'{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":""}]}', "not base64url"),
        (b'{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"AAAAA"}]}', "not base64url"),
        ('{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"é"}]}'.encode(), "not base64url"),
        (b'{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"AQ"}]}', "e is missing"),
        (b'{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"' + b"A" * 1025 + b'"}]}', "longer"),
        (b" " * 4097, "larger than 4096 bytes"),
    ],
)
def test_runtime_data_in_another_form_names_no_key(text: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        hcl.attestation_key(text)
