import pytest

from aicert import hcl
from aicert.errors import EvidenceError
from tests.adversarial.ca_forge import rsa_key
from tests.adversarial.forger import Scene


def test_what_wraps_a_report_is_taken_apart() -> None:
    scene = Scene("confidential")
    read = hcl.parse(scene.get("hcl"))
    assert (read.hardware, read.runtime) == (scene.get("snp_signed"), scene.get("runtime"))
    assert hcl.report_data(read.runtime) == scene.get("report_data")
    numbers = rsa_key("ak").public_key().public_numbers()
    assert hcl.attestation_key(read.runtime) == (numbers.n, numbers.e)


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
    assert hcl.attestation_key(key % text.encode()) == (number, 65537)
    for odd in (text + "=", text + "==", " " + text, text + "\\n", text + "+"):
        with pytest.raises(EvidenceError):
            hcl.attestation_key(key % odd.encode())


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
