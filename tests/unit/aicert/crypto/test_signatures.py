"""Signatures in every scheme that a TPM has, and the keys of public areas."""

import pytest

from aicert.crypto import signatures
from aicert.errors import EvidenceError
from aicert.formats import tpm
from tests.adversarial import tpm_forge
from tests.adversarial.ca_forge import ec_key, rsa_key


@pytest.mark.parametrize(
    ("key", "scheme", "hash_"),
    [
        (rsa_key("ak"), tpm_forge.RSASSA, tpm_forge.SHA256),
        (rsa_key("ak"), tpm_forge.RSASSA, tpm_forge.SHA512),
        (rsa_key("ak"), tpm_forge.RSAPSS, tpm_forge.SHA384),
        (ec_key("unit"), tpm_forge.ECDSA, tpm_forge.SHA256),
        (ec_key("unit", "P-384"), tpm_forge.ECDSA, tpm_forge.SHA384),
    ],
)
def test_signatures_in_every_scheme(key: tpm_forge.AkKey, scheme: int, hash_: int) -> None:
    signature = tpm.parse_signature(tpm_forge.sign(key, b"data", scheme=scheme, hash_=hash_))
    signatures.verify_signature(key.public_key(), signature, b"data")
    with pytest.raises(EvidenceError, match="not made by this key"):
        signatures.verify_signature(key.public_key(), signature, b"Data")
    other = ec_key("unit") if scheme != tpm_forge.ECDSA else rsa_key("ak")
    with pytest.raises(EvidenceError, match="this kind of key cannot make"):
        signatures.verify_signature(other.public_key(), signature, b"data")


def test_the_key_of_a_public_area() -> None:
    for curve in ("P-256", "P-384"):
        key = ec_key("unit", curve).public_key()
        read = signatures.ec_key(tpm.parse_public(tpm_forge.ecc_public(key)))
        assert read.public_numbers() == key.public_numbers()
    rsa = tpm.parse_public(tpm_forge.rsa_public(rsa_key("ak").public_key()))
    with pytest.raises(EvidenceError, match=r"^the public area is not an elliptic curve key$"):
        signatures.ec_key(rsa)
