"""The lease blob: the TPM's half of a content key, wrapped for one machine's storage key.

It has the form that TPM2_Import takes (TPM 2.0 Library, Part 1, clause 23.3: duplication without an
inner wrapper), and is made without a TPM. Whoever holds the storage key's TPM can load it, but can
unseal it only in a session with the policy that the custodian signs (`licence.sealed_policy`): the
object has no password, is not duplicable, and its policy cannot be changed without changing its
Name, which the wrapping covers.
"""

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final

from aicert.errors import EvidenceError
from aicert.formats.binary import Reader
from aicert.formats.tpm import ALG_NULL, ALG_RSA, ALG_SHA256, MAX_RSA, sha256_name
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

HALF_BYTES: Final = 32
MAX_BYTES: Final = 1024
MAX_PUBLIC: Final = 128
MAX_DUPLICATE: Final = 256

_ALG_AES: Final = 0x0006
_ALG_CFB: Final = 0x0043
_ALG_KEYEDHASH: Final = 0x0008
_KEY_BITS: Final = 2048
_AES_BITS: Final = 128
_AES_BLOCK: Final = 16
# TPMA_OBJECT, Part 2, 8.3. A storage parent has the attributes of TCG's template for storage root
# keys.
_FIXED: Final = 0x0000_0002 | 0x0000_0010 | 0x0000_0020  # fixedTPM, fixedParent, dataOrigin
_USER_WITH_AUTH: Final = 0x0000_0040
_NO_DA: Final = 0x0000_0400
_RESTRICTED: Final = 0x0001_0000
_DECRYPT: Final = 0x0002_0000
STORAGE_ATTRIBUTES: Final = _FIXED | _USER_WITH_AUTH | _NO_DA | _RESTRICTED | _DECRYPT
_STORAGE_HEAD: Final = b"".join(
    (
        ALG_RSA.to_bytes(2),
        ALG_SHA256.to_bytes(2),
        STORAGE_ATTRIBUTES.to_bytes(4),
        (0).to_bytes(2),  # no policy
        _ALG_AES.to_bytes(2),
        _AES_BITS.to_bytes(2),
        _ALG_CFB.to_bytes(2),
        ALG_NULL.to_bytes(2),  # no scheme
        _KEY_BITS.to_bytes(2),
        (0).to_bytes(4),  # the usual exponent
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """What TPM2_Import takes: a TPMT_PUBLIC, and the contents of a TPM2B_PRIVATE and a
    TPM2B_ENCRYPTED_SECRET.
    """

    public: bytes
    duplicate: bytes
    seed: bytes


def emit(blob: Blob) -> bytes:
    """Return the three parts, each with its size before it."""
    return b"".join(_sized(part) for part in (blob.public, blob.duplicate, blob.seed))


def parse(data: bytes) -> Blob:
    """Read a blob; EvidenceError for other parts, sizes or trailing bytes. Nothing is opened."""
    reader = Reader(data, "the lease blob", limit=MAX_BYTES)
    public = reader.sized(MAX_PUBLIC, "public area")
    duplicate = reader.sized(MAX_DUPLICATE, "wrapped half")
    seed = reader.sized(MAX_RSA, "seed")
    reader.done()
    return Blob(public=public, duplicate=duplicate, seed=seed)


def storage_key(public: bytes) -> "RSAPublicKey":
    """Return the RSA key of a storage key's TPMT_PUBLIC, which must have the usual template.

    Any other is an EvidenceError. It would protect a half less: it could be duplicated, use another
    cipher, or not be a key that wraps.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    modulus = public[len(_STORAGE_HEAD) + 2 :]
    size = (_KEY_BITS // 8).to_bytes(2)
    if public != _STORAGE_HEAD + size + modulus or len(modulus) != _KEY_BITS // 8:
        raise EvidenceError("the storage key is not an RSA-2048 parent of the usual template")
    number = int.from_bytes(modulus)
    if number.bit_length() != _KEY_BITS or not number % 2:
        raise EvidenceError("the storage key's modulus does not have 2048 bits, or is even")
    return RSAPublicNumbers(65537, number).public_key()


def wrap(half: bytes, policy: bytes, storage_public: bytes) -> Blob:
    """Wrap the TPM's half of a content key for the storage key with this TPMT_PUBLIC.

    `policy`: the authPolicy of the sealed half.
    """
    parent = storage_key(storage_public)
    if len(half) != HALF_BYTES:
        raise EvidenceError(f"half of a content key has {HALF_BYTES} bytes")
    blinding, seed = secrets.token_bytes(32), secrets.token_bytes(32)
    public = _sealed_public(policy, hashlib.sha256(blinding + half).digest())
    name = sha256_name(public)
    # TPMT_SENSITIVE, Part 2, 12.3.2.4: no authorisation value.
    sensitive = _ALG_KEYEDHASH.to_bytes(2) + _sized(b"") + _sized(blinding) + _sized(half)
    encrypted = _aes_cfb(key_derivation(seed, b"STORAGE", name, _AES_BITS), _sized(sensitive))
    integrity = hmac.digest(
        key_derivation(seed, b"INTEGRITY", b"", 256), encrypted + name, "sha256"
    )
    return Blob(public=public, duplicate=_sized(integrity) + encrypted, seed=_oaep(parent, seed))


def _sealed_public(policy: bytes, unique: bytes) -> bytes:
    """Return the TPMT_PUBLIC of a sealed half: no userWithAuth, so no password opens it."""
    head = _ALG_KEYEDHASH.to_bytes(2) + ALG_SHA256.to_bytes(2) + _NO_DA.to_bytes(4)
    return head + _sized(policy) + ALG_NULL.to_bytes(2) + _sized(unique)


def key_derivation(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """Return a key by KDFa with SHA-256, of at most 256 bits (Part 1, clause 11.4.10.2)."""
    message = (1).to_bytes(4) + label + b"\0" + context + bits.to_bytes(4)
    return hmac.digest(key, message, "sha256")[: bits // 8]


def _aes_cfb(key: bytes, data: bytes) -> bytes:
    """Encrypt by AES-CFB from a zero vector (Part 1, clause 22.4): each block's key stream is the
    encryption of the block before it.

    The mode is written out here because its name in `cryptography` differs between versions.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encrypted, previous = b"", bytes(_AES_BLOCK)
    for start in range(0, len(data), _AES_BLOCK):
        one = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block
        stream = one.update(previous)
        block = data[start : start + _AES_BLOCK]
        previous = bytes(a ^ b for a, b in zip(block, stream, strict=False))
        encrypted += previous
    return encrypted


def _oaep(parent: "RSAPublicKey", seed: bytes) -> bytes:
    """Encrypt the seed by RSAES_OAEP with the label DUPLICATE (Part 1, B.10.4)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    mask = padding.MGF1(hashes.SHA256())
    oaep = padding.OAEP(mgf=mask, algorithm=hashes.SHA256(), label=b"DUPLICATE\0")
    return parent.encrypt(seed, oaep)


def _sized(data: bytes) -> bytes:
    """Return `data` as a TPM2B."""
    return len(data).to_bytes(2) + data
