"""Signatures of TPMs, run keys and processors, over bytes and by keys that others read.

Every function raises EvidenceError unless the key made the signature; none says so by a boolean
that a caller could forget. Left out: who may sign what, which is the appraisal's.
"""

from typing import TYPE_CHECKING

from aicert.errors import EvidenceError
from aicert.formats.tpm import (
    ALG_ECC,
    ALG_ECDSA,
    ALG_RSAPSS,
    ALG_RSASSA,
    ALG_SHA256,
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
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

    hash_ = _cryptography_hash(signature.hash)
    try:
        if signature.scheme == ALG_ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            der = utils.encode_dss_signature(signature.r, signature.s)
            key.verify(der, data, ec.ECDSA(hash_))
        elif signature.scheme == ALG_RSASSA and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.rsa, data, padding.PKCS1v15(), hash_)
        elif signature.scheme == ALG_RSAPSS and isinstance(key, rsa.RSAPublicKey):
            # Part 1, B.7: the salt is as long as fits, or as the digest under FIPS 186-4.
            pss = padding.PSS(padding.MGF1(hash_), padding.PSS.AUTO)
            key.verify(signature.rsa, data, pss, hash_)
        else:
            raise EvidenceError(f"a signature of kind {signature} cannot be by this kind of key")
    except InvalidSignature:
        raise EvidenceError(
            f"the {signature} signature is not by this key over these bytes"
        ) from None


def _cryptography_hash(algorithm: int) -> "hashes.HashAlgorithm":
    from cryptography.hazmat.primitives import hashes

    if algorithm == ALG_SHA256:
        return hashes.SHA256()
    return hashes.SHA384() if HASHES[algorithm] == "sha384" else hashes.SHA512()


def ec_key(public: Public) -> "EllipticCurvePublicKey":
    """The P-256 or P-384 key of a TPM's public area; a point off the curve is an EvidenceError."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if public.type != ALG_ECC:
        raise EvidenceError("the public area is not an elliptic curve key")
    curve = ec.SECP256R1() if public.curve == CURVE_P256 else ec.SECP384R1()
    x, y = int.from_bytes(public.x), int.from_bytes(public.y)
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise EvidenceError("the public area's point is not on its curve") from None


def verify_ecdsa_sha256(
    key: "EllipticCurvePublicKey", signature: bytes, data: bytes, refusal: str
) -> None:
    """Raise EvidenceError(refusal) unless `key` made `signature` (DER) over `data`."""
    from cryptography.hazmat.primitives.hashes import SHA256

    _verify_ecdsa(key, signature, data, SHA256(), refusal)


def verify_ecdsa_sha384(
    key: "EllipticCurvePublicKey", r: int, s: int, data: bytes, refusal: str
) -> None:
    """Raise EvidenceError(refusal) unless `key` made the signature `r`, `s` over `data`."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA384

    _verify_ecdsa(key, encode_dss_signature(r, s), data, SHA384(), refusal)


def _verify_ecdsa(
    key: "EllipticCurvePublicKey",
    signature: bytes,
    data: bytes,
    hash_: "hashes.HashAlgorithm",
    refusal: str,
) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(signature, data, ec.ECDSA(hash_))
    except InvalidSignature:
        raise EvidenceError(refusal) from None


def rsa_numbers(key: "PublicKeyTypes") -> tuple[int, int] | None:
    """Modulus and exponent of an RSA key, None for another kind of key."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if not isinstance(key, RSAPublicKey):
        return None
    numbers = key.public_numbers()
    return numbers.n, numbers.e
