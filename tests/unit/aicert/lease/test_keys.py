import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

from aicert.errors import ConfigError, EvidenceError
from aicert.formats import tpm
from aicert.lease import keys
from tests.vectors.leases import CUSTODIAN

PUBLIC = CUSTODIAN.public_key()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_a_key_that_the_hint_makes_is_read(tmp_path: Path) -> None:
    subprocess.run(keys.MAKE_KEY.split(), cwd=tmp_path, check=True, capture_output=True)
    key = keys.load_private((tmp_path / "lease-key.pem").read_bytes())
    read = keys.load_public(keys.spki_of(key.public_key()))
    assert keys.spki_digest(read) == keys.spki_digest(key.public_key())
    r, s = keys.signature_numbers(keys.sign(key, b"data"))
    read.verify(utils.encode_dss_signature(r, s), b"data", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(ed25519.Ed25519PrivateKey.generate()),
        CUSTODIAN.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        ),
    ],
)
def test_anything_but_an_open_p_256_key_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="a lease key is"):
        keys.load_private(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        keys.spki_of(PUBLIC) + b"\0",
        keys.spki_of(ec.generate_private_key(ec.SECP384R1()).public_key()),
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        # The same key with a compressed point.
        bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
        + PUBLIC.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        ),
    ],
)  # fmt: skip
def test_a_custodians_key_has_one_form(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="the custodian's key is n"):
        keys.load_public(data)


def test_the_public_area_is_one_that_our_own_reader_takes() -> None:
    read = tpm.parse_public(keys.public_area(PUBLIC))
    assert (read.type, read.curve, read.scheme) == (tpm.ALG_ECC, tpm.CURVE_P256, tpm.ALG_NULL)
    assert read.attributes == tpm.USER_WITH_AUTH | tpm.SIGN
    assert read.name == keys.name_of(PUBLIC)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x06\x02\x01\x01\x02\x01\x01\0",
        # Zero, a number of another curve, and a leading zero octet too many.
        utils.encode_dss_signature(0, 1),
        utils.encode_dss_signature(1, 1 << 256),
        b"\x30\x07\x02\x02\x00\x01\x02\x01\x01",
    ],
)
def test_a_signature_has_one_form(data: bytes) -> None:
    with pytest.raises(EvidenceError, match="the signature is n"):
        keys.signature_numbers(data)


def test_numbers_of_a_signature() -> None:
    assert keys.signature_numbers(utils.encode_dss_signature(1, ORDER - 1)) == (1, ORDER - 1)
