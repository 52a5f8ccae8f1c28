"""SubjectPublicKeyInfo (RFC 5280, 4.1.2.7): the public key of a certificate.

A key of a known kind is checked, and an error says what is wrong with it. For kinds that verify no
signature here, such as X25519, only the length is checked. Unlike `cryptography`, which checks the
groups of Diffie-Hellman keys, this counts Diffie-Hellman as an unknown kind, and so is stricter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from browser.crypto import algorithms, der
from browser.crypto.curves import BY_OID
from browser.crypto.ec import EC_PUBLIC_KEY, EllipticCurvePublicKey, decoded
from browser.crypto.ed25519 import Ed25519PublicKey
from browser.crypto.errors import UnsupportedAlgorithmError
from browser.crypto.rsa import RSA, RSAPublicKey

Value = TypeVar("Value")
# The length in bytes of the keys of these kinds.
_SIZES = {
    algorithms.ED448: 57,
    algorithms.X25519: 32,
    algorithms.X448: 56,
    **dict(zip(algorithms.ML_DSA, (1312, 1952, 2592), strict=True)),
    **dict(zip(algorithms.ML_KEM, (1184, 1568), strict=True)),
}
_UNREADABLE = (
    "Could not deserialize key data. The data may be in an incorrect format, it may be encrypted "
    "with an unsupported algorithm, or it may be an unsupported key type (e.g. EC curves with "
    "explicit parameters). Details: ASN.1 parsing error: {}"
)


@dataclass(frozen=True, slots=True)
class OtherKey:
    """A key of a kind that verifies no signature here."""

    oid: str
    octets: bytes


PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | OtherKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """An encoded key: its algorithm, and its bits."""

    algorithm: algorithms.Algorithm
    key: der.BitString


def read(reader: der.Reader) -> KeyInfo:
    """Read the next element: a SubjectPublicKeyInfo."""
    inner = reader.inside()
    info = KeyInfo(algorithm=algorithms.read(inner), key=der.bits(inner))
    inner.end()
    return info


def public_key(info: KeyInfo) -> PublicKey:
    """Decode the key. Raises ValueError if it is invalid, UnsupportedAlgorithmError if of another
    kind.
    """
    oid, octets = info.algorithm.oid, info.key.octets
    if info.key.unused:
        raise ValueError("Invalid key")
    if oid == EC_PUBLIC_KEY:
        return _on_a_curve(info.algorithm.curve, octets)
    if oid in (RSA, algorithms.RSASSA_PSS):
        return _rsa(octets)
    if oid == algorithms.ED25519:
        return Ed25519PublicKey(octets)
    if oid in (algorithms.DSA, algorithms.DH, algorithms.DHX):
        _readable(octets, der.unsigned)
        if oid == algorithms.DSA:
            return OtherKey(oid, octets)
    if oid not in _SIZES:
        raise UnsupportedAlgorithmError(f"Unknown key type: {oid}")
    if len(octets) != _SIZES[oid]:
        raise ValueError("Invalid key")
    return OtherKey(oid, octets)


def _on_a_curve(oid: str | None, octets: bytes) -> EllipticCurvePublicKey:
    if not oid:
        raise UnsupportedAlgorithmError(
            "ECDSA keys with explicit parameters are only supported when they map to secp256r1, "
            "secp384r1, or secp521r1. No custom curves are supported."
        )
    if oid not in BY_OID:
        raise UnsupportedAlgorithmError(f"Curve {oid} is not supported")
    return decoded(BY_OID[oid], octets)


def _rsa(octets: bytes) -> RSAPublicKey:
    """Decode an RSAPublicKey (RFC 8017, A.1.1)."""

    def numbers(reader: der.Reader) -> tuple[int, int]:
        inner = reader.inside()
        n, e = der.unsigned(inner), der.unsigned(inner)
        inner.end()
        return n, e

    return RSAPublicKey(*_readable(octets, numbers))


def load_der_public_key(data: bytes) -> PublicKey:
    """Parse a key that stands alone, as SubjectPublicKeyInfo."""
    return public_key(_readable(data, read))


def _readable(data: bytes, how: Callable[[der.Reader], Value]) -> Value:
    """Read the only value in these bytes. Raises ValueError with the original's message."""
    try:
        return der.single(data, how)
    except der.ParseError as error:
        raise ValueError(_UNREADABLE.format(error.reason)) from None
