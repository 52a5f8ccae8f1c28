"""AlgorithmIdentifier (RFC 5280, 4.1.1.2): parse an algorithm and check its parameters.

The parameters of a known algorithm must have their one valid form; an unknown algorithm may have
any element or none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from browser.crypto import der, domains, hashes, rsa
from browser.crypto.ec import EC_PUBLIC_KEY, ECDSA
from browser.crypto.errors import UnsupportedAlgorithmError

MGF1 = "1.2.840.113549.1.1.8"
RSASSA_PSS = "1.2.840.113549.1.1.10"
ED25519 = "1.3.101.112"
ED448 = "1.3.101.113"
X25519 = "1.3.101.110"
X448 = "1.3.101.111"
_NIST = "2.16.840.1.101.3.4."
ML_DSA = tuple(f"{_NIST}3.{number}" for number in (17, 18, 19))
ML_KEM = tuple(f"{_NIST}4.{number}" for number in (2, 3))
_SHA1 = "1.3.14.3.2.26"

HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {
    _SHA1: hashes.SHA1,
    f"{_NIST}2.4": hashes.SHA224,
    f"{_NIST}2.1": hashes.SHA256,
    f"{_NIST}2.2": hashes.SHA384,
    f"{_NIST}2.3": hashes.SHA512,
    f"{_NIST}2.7": hashes.SHA3224,
    f"{_NIST}2.8": hashes.SHA3256,
    f"{_NIST}2.9": hashes.SHA3384,
    f"{_NIST}2.10": hashes.SHA3512,
}
_RSA_SIGNATURES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "1.2.840.113549.1.1.5": hashes.SHA1,
    "1.3.14.3.2.29": hashes.SHA1,
    "1.2.840.113549.1.1.14": hashes.SHA224,
    "1.2.840.113549.1.1.11": hashes.SHA256,
    "1.2.840.113549.1.1.12": hashes.SHA384,
    "1.2.840.113549.1.1.13": hashes.SHA512,
    f"{_NIST}3.13": hashes.SHA3224,
    f"{_NIST}3.14": hashes.SHA3256,
    f"{_NIST}3.15": hashes.SHA3384,
    f"{_NIST}3.16": hashes.SHA3512,
}
_ECDSA_SIGNATURES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "1.2.840.10045.4.3.1": hashes.SHA224,
    "1.2.840.10045.4.3.2": hashes.SHA256,
    "1.2.840.10045.4.3.3": hashes.SHA384,
    "1.2.840.10045.4.3.4": hashes.SHA512,
    f"{_NIST}3.9": hashes.SHA3224,
    f"{_NIST}3.10": hashes.SHA3256,
    f"{_NIST}3.11": hashes.SHA3384,
    f"{_NIST}3.12": hashes.SHA3512,
}
_DSA_SIGNATURES: Mapping[str, type[hashes.HashAlgorithm]] = {
    f"{_NIST}3.1": hashes.SHA224,
    f"{_NIST}3.2": hashes.SHA256,
    f"{_NIST}3.3": hashes.SHA384,
    f"{_NIST}3.4": hashes.SHA512,
}
# The hash of each signature algorithm. Signatures of an algorithm that is listed only here cannot
# be verified.
_NAMED_HASHES: Mapping[str, type[hashes.HashAlgorithm] | None] = {
    "1.2.840.113549.1.1.4": hashes.MD5,
    "1.2.840.10045.4.1": hashes.SHA1,
    "1.2.840.10040.4.3": hashes.SHA1,
    f"{_NIST}3.1": hashes.SHA224,
    f"{_NIST}3.2": hashes.SHA256,
    ED25519: None,
    ED448: None,
    **dict.fromkeys(ML_DSA),
    "1.2.643.2.2.3": None,
    "1.2.643.7.1.1.3.2": None,
    "1.2.643.7.1.1.3.3": None,
    "1.3.6.1.5.5.7.6.36": None,
    **_RSA_SIGNATURES,
    **_ECDSA_SIGNATURES,
}
# Algorithms whose parameters are NULL or absent.
_NULL_OR_NOTHING = {rsa.RSA, *HASHES, *_RSA_SIGNATURES, "1.2.840.113549.2.7", "1.2.840.113549.2.9"}
# Algorithms whose parameters must be absent.
_NOTHING = {
    ED25519, ED448, X25519, X448, *ML_DSA, *ML_KEM, *_ECDSA_SIGNATURES, *_DSA_SIGNATURES,
    "1.3.6.1.5.5.7.6.36",
}  # fmt: skip
DSA, DH, DHX = "1.2.840.10040.4.1", "1.2.840.113549.1.3.1", "1.2.840.10046.2.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PssParameters:
    """RSASSA-PSS-params (RFC 4055, 3.1)."""

    hash_oid: str
    mask_oid: str
    mask_hash_oid: str
    salt_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """A parsed algorithm: its OID, its parameters if they are known, and its encoding."""

    oid: str
    pss: PssParameters | None
    curve: str | None
    encoded: bytes

    def hash(self) -> hashes.HashAlgorithm | None:
        """Return the hash of a signature algorithm; None if it has none of its own."""
        if self.oid == RSASSA_PSS:
            if self.pss is None:
                raise ValueError("Invalid RSA PSS parameters")
            return _hash(self.pss.hash_oid)
        if self.oid not in _NAMED_HASHES:
            raise UnsupportedAlgorithmError(f"Signature algorithm OID: {self.oid} not recognized")
        kind = _NAMED_HASHES[self.oid]
        return None if kind is None else kind()

    def rsa_padding(self) -> rsa.PSS | rsa.PKCS1v15 | None:
        """Return the RSA padding of this algorithm; None if it is not an RSA algorithm."""
        if self.pss is not None and self.oid == RSASSA_PSS:
            if self.pss.mask_oid != MGF1:
                raise ValueError(f"Unsupported mask generation OID: {self.pss.mask_oid}")
            return rsa.PSS(rsa.MGF1(_hash(self.pss.mask_hash_oid)), self.pss.salt_length)
        # Signatures with SHA-1 are never verified.
        weak = _RSA_SIGNATURES.get(self.oid) in (None, hashes.SHA1)
        return None if weak else rsa.PKCS1v15()

    def ecdsa(self) -> ECDSA | None:
        """Return ECDSA with this algorithm's hash; None if it is not an ECDSA algorithm."""
        kind = _ECDSA_SIGNATURES.get(self.oid)
        return None if kind is None else ECDSA(kind())


def _hash(oid: str) -> hashes.HashAlgorithm:
    if oid not in HASHES:
        raise UnsupportedAlgorithmError(f"Signature algorithm OID: {oid} not recognized")
    return HASHES[oid]()


def read(reader: der.Reader) -> Algorithm:
    """Read the next element: an AlgorithmIdentifier."""
    encoded = reader.whole(der.SEQUENCE)
    inner = der.Reader(encoded).inside()
    oid = der.oid(inner)
    pss, curve = None, None
    if oid == RSASSA_PSS:
        pss = _pss(inner.inside()) if inner.next_is(der.SEQUENCE) else None
    elif oid == EC_PUBLIC_KEY:
        curve = _curve(inner)
    elif oid in _GROUPS:
        group = inner.inside()
        _GROUPS[oid](group)
        group.end()
    elif oid in _NULL_OR_NOTHING:
        if inner.next_is(der.NULL):
            der.null(inner)
    elif oid not in _NOTHING and inner.peek() is not None:
        inner.element()
    inner.end()
    return Algorithm(oid=oid, pss=pss, curve=curve, encoded=encoded)


def _dsa(reader: der.Reader) -> None:
    """Read Dss-Parms (RFC 3279, 2.3.2)."""
    for _ in range(3):
        der.unsigned(reader)


def _dh(reader: der.Reader) -> None:
    """Read a DHParameter (PKCS #3, section 9)."""
    for _ in range(2):
        der.unsigned(reader)
    if reader.next_is(der.INTEGER):
        der.small(reader, 32)


def _dhx(reader: der.Reader) -> None:
    """Read DomainParameters (RFC 3279, 2.3.3)."""
    for _ in range(3):
        der.unsigned(reader)
    if reader.next_is(der.INTEGER):
        der.unsigned(reader)
    if reader.next_is(der.SEQUENCE):
        inner = reader.inside()
        der.bits(inner)
        der.unsigned(inner)
        inner.end()


_GROUPS: Mapping[str, Callable[[der.Reader], None]] = {DSA: _dsa, DH: _dh, DHX: _dhx}


def _curve(reader: der.Reader) -> str:
    """Read the curve's name; return "" if the curve has none (RFC 5480, 2.1.1)."""
    tag = reader.peek()
    if tag is not None and tag.is_octet(der.NULL):
        der.null(reader)
        return ""
    if tag is not None and tag.is_octet(der.SEQUENCE):
        return domains.read(reader)
    return der.oid(reader)


def _pss(reader: der.Reader) -> PssParameters:
    sha1 = read(der.Reader(der.encoded(der.SEQUENCE, der.encoded_oid(_SHA1) + b"\5\0")))
    hashed = reader.explicit(0, read)
    mask = reader.explicit(1, _mask)
    salt = reader.explicit(2, lambda inner: der.small(inner, 16))
    reader.explicit(3, lambda inner: der.small(inner, 8))
    reader.end()
    if salt == 20 or hashed == sha1 or mask == (MGF1, sha1):
        raise der.ParseError(der.ENCODED_DEFAULT)
    mask_oid, mask_hash = mask or (MGF1, sha1)
    return PssParameters(
        hash_oid=(hashed or sha1).oid,
        mask_oid=mask_oid,
        mask_hash_oid=mask_hash.oid,
        salt_length=20 if salt is None else salt,
    )


def _mask(reader: der.Reader) -> tuple[str, Algorithm]:
    inner = reader.inside()
    pair = der.oid(inner), read(inner)
    inner.end()
    return pair
