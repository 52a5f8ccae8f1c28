"""Wrapped blobs; tests/e2e/lease/test_lease_licence.py opens them with a TPM."""

import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from aicert.errors import EvidenceError
from aicert.lease import blob
from tests.adversarial.ca_forge import rsa_key

PARENT = rsa_key("storage")
MODULUS = PARENT.public_key().public_numbers().n.to_bytes(256)
# TCG's template of a storage root key: attributes 0x00030472, AES-128 in CFB mode, no scheme.
HEAD = struct.pack(">HHIHHHHHHI", 1, 0x000B, 0x00030472, 0, 6, 128, 0x43, 0x10, 2048, 0)
STORAGE = HEAD + struct.pack(">H", 256) + MODULUS
POLICY = bytes(range(32))


def test_a_blob_has_448_bytes_and_one_form() -> None:
    wrapped = blob.wrap(b"\x05" * 32, POLICY, STORAGE)
    data = blob.emit(wrapped)
    assert len(data) == 448
    assert blob.parse(data) == wrapped
    assert POLICY in wrapped.public
    # Every random part of a blob is drawn anew.
    assert blob.wrap(b"\x05" * 32, POLICY, STORAGE).public != wrapped.public


def test_the_seed_is_for_the_storage_key() -> None:
    wrapped = blob.wrap(bytes(32), POLICY, STORAGE)
    mask = padding.MGF1(hashes.SHA256())
    oaep = padding.OAEP(mgf=mask, algorithm=hashes.SHA256(), label=b"DUPLICATE\0")
    assert len(PARENT.decrypt(wrapped.seed, oaep)) == 32


@pytest.mark.parametrize(
    "public",
    [
        b"",
        STORAGE[:-1],
        STORAGE + b"\0",
        # Duplicable; a signing key; another cipher; another exponent; with a policy.
        STORAGE.replace(b"\x00\x03\x04\x72", b"\x00\x03\x04\x70"),
        STORAGE.replace(b"\x00\x03\x04\x72", b"\x00\x07\x04\x72"),
        STORAGE.replace(b"\x00\x06\x00\x80", b"\x00\x06\x01\x00"),
        HEAD[:-4] + struct.pack(">IH", 3, 256) + MODULUS,
        HEAD[:8] + b"\0\1" + HEAD[10:] + struct.pack(">H", 256) + MODULUS,
        HEAD + struct.pack(">H", 256) + MODULUS[:-1] + b"\0",
        HEAD + struct.pack(">H", 256) + b"\x01" + MODULUS[1:],
    ],
)
def test_a_storage_key_of_another_kind_is_refused(public: bytes) -> None:
    with pytest.raises(EvidenceError, match="the storage key"):
        blob.wrap(bytes(32), POLICY, public)


def test_a_half_of_another_size_is_refused() -> None:
    with pytest.raises(EvidenceError, match="has 32 bytes"):
        blob.wrap(bytes(31), POLICY, STORAGE)


@pytest.mark.parametrize("change", [b"\0", b"cut", b"sizes"])
def test_what_is_no_blob_is_refused(change: bytes) -> None:
    data = blob.emit(blob.wrap(bytes(32), POLICY, STORAGE))
    changed = {b"\0": data + b"\0", b"cut": data[:-1], b"sizes": b"\x01" + data[1:]}[change]
    with pytest.raises(EvidenceError, match="the lease blob"):
        blob.parse(changed)
