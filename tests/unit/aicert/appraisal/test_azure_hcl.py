import pytest

from aicert.appraisal.evidence import azure_hcl
from aicert.errors import EvidenceError
from tests.adversarial import chip_forge
from tests.adversarial.ca_forge import rsa_key
from tests.adversarial.forger import Scene


def test_what_wraps_a_report_is_taken_apart() -> None:
    scene = Scene("confidential")
    read = azure_hcl.parse(scene.get("hcl"))
    assert (read.hardware, read.runtime) == (scene.get("snp_signed"), scene.get("runtime"))
    assert azure_hcl.report_data(read.runtime) == scene.get("report_data")
    numbers = rsa_key("ak").public_key().public_numbers()
    assert azure_hcl.attestation_key(read.runtime) == (numbers.n, numbers.e)


def test_runtime_data_has_a_greatest_length_and_no_least() -> None:
    hardware = Scene("confidential").get("snp_signed")
    for size in (0, 1, 4096):
        text = b"x" * size
        assert azure_hcl.parse(chip_forge.hcl(hardware, text)) == azure_hcl.HclReport(
            kind=azure_hcl.SNP, hardware=hardware, runtime=text
        )
    with pytest.raises(EvidenceError) as caught:
        azure_hcl.parse(chip_forge.hcl(hardware, b"x" * 4097))
    assert caught.value.message == "runtime data of 4097 bytes, more than 4096"
    with pytest.raises(EvidenceError) as caught:
        azure_hcl.parse(chip_forge.hcl(hardware, b"")[:-1])
    assert caught.value.message == "the platform's report has 1235 bytes, not 1236 or more"


@pytest.mark.parametrize("more", [b"X", b"\0X", b"X\0", b" "])
def test_only_zeros_follow_a_report(more: bytes) -> None:
    report = Scene("confidential").get("hcl")
    assert azure_hcl.parse(report + bytes(8)) == azure_hcl.parse(report)
    with pytest.raises(EvidenceError, match="something follows it"):
        azure_hcl.parse(report + more)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("AQ", 1),
        ("AAE", 1),
        ("AQAB", 65537),
        ("AQAX", 0x010017),
        ("_-8", 0xFFEF),
        ("WFhY", 0x585858),
    ],
)
def test_a_number_has_one_encoding(text: str, number: int) -> None:
    key = b'{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"%b","e":"AQAB"}]}'
    assert azure_hcl.attestation_key(key % text.encode()) == (number, 65537)
    for odd in (text + "=", text + "==", " " + text, text + "\\n", text + "+"):
        with pytest.raises(EvidenceError):
            azure_hcl.attestation_key(key % odd.encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "expected an object"),
        (b"{}", "keys is missing"),
        (b'{"keys":[3]}', "expected an object"),
        (b'{"keys":[' + b"{}," * 8 + b"{}]}", "more than 8 items"),
        (b'{"keys":[],"keys":[]}', "given twice"),
        (b'{"keys":[{"kid":"HCLAkPub","kty":"EC"}]}', "key of kind 'EC' is not known"),
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
        azure_hcl.attestation_key(text)
