"""Verify signatures of TPMs, run keys and processors; other modules read the bytes and the keys.

Every function raises EvidenceError unless the key made the signature; none returns a boolean that a
caller could forget. Left out: who may sign what, which the appraisal decides.
"""

from typing import TYPE_CHECKING

from aicert.errors import EvidenceError
from aicert.formats.tpm import (
    ALG_ECC,
    ALG_ECDSA,
    ALG_RSAPSS,
    ALG_RSASSA,
    CURVE_P256,
    HASHES,
    Public,
    Signature,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def verify_signature(key: "PublicKeyTypes", signature: Signature, data: bytes) -> None:
    """Raise EvidenceError unless `key` made `signature` over `data`; the key's kind must fit."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    hash_ = _hash_by_name(HASHES[signature.hash])
    try:
        if signature.scheme == ALG_ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(ecdsa_der(signature.r, signature.s), data, ec.ECDSA(hash_))
        elif signature.scheme == ALG_RSASSA and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.rsa, data, padding.PKCS1v15(), hash_)
        elif signature.scheme == ALG_RSAPSS and isinstance(key, rsa.RSAPublicKey):
            # Part 1, B.7: the salt is as long as fits, or as the digest under FIPS 186-4.
            pss = padding.PSS(padding.MGF1(hash_), padding.PSS.AUTO)
            key.verify(signature.rsa, data, pss, hash_)
        else:
            raise EvidenceError(f"this kind of key cannot make a signature of kind {signature}")
    except InvalidSignature:
        raise EvidenceError(
            f"the {signature} signature was not made by this key over these bytes"
        ) from None


def _hash_by_name(name: str) -> "hashes.HashAlgorithm":
    from cryptography.hazmat.primitives import hashes

    known = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
    return known[name]


def ec_key(public: Public) -> "EllipticCurvePublicKey":
    """Return the P-256 or P-384 key of a TPM's public area; EvidenceError if it is not on its
    curve.
    """
    if public.type != ALG_ECC:
        raise EvidenceError("the public area is not an elliptic curve key")
    bits = 256 if public.curve == CURVE_P256 else 384
    return point(public.x, public.y, bits, "the public area's point is not on its curve")


def point(x: bytes, y: bytes, bits: int, refusal: str) -> "EllipticCurvePublicKey":
    """Return the P-256 or P-384 key that is this point (`bits`: 256 or 384); EvidenceError(refusal)
    if the point is not on the curve.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.SECP256R1() if bits == 256 else ec.SECP384R1()
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve)
    try:
        return numbers.public_key()
    except ValueError:
        raise EvidenceError(refusal) from None


def verify_ecdsa(
    key: "EllipticCurvePublicKey", signature: bytes, data: bytes, hash_: str, refusal: str
) -> None:
    """Raise EvidenceError(refusal) unless `key` made `signature` (DER) over `data`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(signature, data, ec.ECDSA(_hash_by_name(hash_)))
    except InvalidSignature:
        raise EvidenceError(refusal) from None


def ecdsa_der(r: int, s: int) -> bytes:
    """Return a signature's two numbers as DER."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    return encode_dss_signature(r, s)


def public_key_info(key: "PublicKeyTypes") -> bytes:
    """Return the key's SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) in DER."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_numbers(key: "PublicKeyTypes") -> tuple[int, int] | None:
    """Return modulus and exponent of an RSA key, None for any other kind of key."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if not isinstance(key, RSAPublicKey):
        return None
    numbers = key.public_numbers()
    return numbers.n, numbers.e
