"""X.509 certificates (RFC 5280, 4.1): parse them, and check that one directly issued another.

`load_der_x509_certificate` parses the whole structure or raises ValueError. Strings, keys and the
values of extensions are parsed on demand, as in `cryptography`, so that both report the same error
first. `verify_directly_issued_by` raises unless the issuer's key signed.
"""

from datetime import datetime

from browser.crypto import algorithms, der, extensions, keys, names, times
from browser.crypto.ec import EllipticCurvePublicKey
from browser.crypto.ed25519 import Ed25519PublicKey
from browser.crypto.errors import InvalidVersionError
from browser.crypto.hashes import HashAlgorithm
from browser.crypto.names import Name, ObjectIdentifier
from browser.crypto.rsa import RSAPublicKey

_VERSION_1, _VERSION_3 = 0, 2


class Certificate:
    """A parsed certificate."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        reader = der.Reader(encoded)
        inner = reader.inside()
        self.tbs_certificate_bytes = inner.whole(der.SEQUENCE)
        self._read_signed_part(der.Reader(self.tbs_certificate_bytes).inside())
        self._algorithm = algorithms.read(inner)
        self.signature = der.bits(inner).octets
        inner.end()
        reader.end()
        if self._version not in (_VERSION_1, _VERSION_3):
            raise InvalidVersionError(f"{self._version} is not a valid X509 version")

    def _read_signed_part(self, reader: der.Reader) -> None:
        version = reader.explicit(0, lambda inner: der.small(inner, 8))
        if version == _VERSION_1:
            raise der.ParseError(der.ENCODED_DEFAULT)
        self._version = version or _VERSION_1
        self.serial_number = der.integer_content(reader.content(der.INTEGER))
        self._inner_algorithm = algorithms.read(reader)
        self._issuer = names.read(reader)
        validity = reader.inside()
        self._start, self._end = times.read(validity), times.read(validity)
        validity.end()
        self._subject = names.read(reader)
        self._key = keys.read(reader)
        for octet in (0x81, 0x82):
            if reader.next_is(octet):
                der.bits(reader, octet)
        listed = reader.explicit(
            3, lambda inner: der.items(inner.content(der.SEQUENCE), extensions.read)
        )
        self._extensions = listed or []
        reader.end()

    @property
    def issuer(self) -> Name:
        return names.name(self._issuer)

    @property
    def subject(self) -> Name:
        return names.name(self._subject)

    @property
    def subject_bytes(self) -> bytes:
        """The subject as encoded."""
        return self._subject.encoded

    @property
    def not_valid_before_utc(self) -> datetime:
        return self._start.value()

    @property
    def not_valid_after_utc(self) -> datetime:
        return self._end.value()

    @property
    def extensions(self) -> list[extensions.Extension]:
        """The parsed extensions, in order. Errors are those of `extensions.parsed_all`."""
        return extensions.parsed_all(self._extensions, extensions.READERS)

    @property
    def signature_algorithm_oid(self) -> ObjectIdentifier:
        return ObjectIdentifier(self._algorithm.oid)

    @property
    def signature_hash_algorithm(self) -> HashAlgorithm | None:
        return self._algorithm.hash()

    def public_key(self) -> keys.PublicKey:
        return keys.public_key(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self._encoded == other._encoded

    def __hash__(self) -> int:
        return hash(self._encoded)

    def verify_directly_issued_by(self, issuer: "Certificate") -> None:
        """Raise ValueError, TypeError or InvalidSignatureError unless `issuer` signed this
        certificate.
        """
        if self._inner_algorithm.encoded != self._algorithm.encoded:
            raise ValueError(
                "Inner and outer signature algorithms do not match. This is an invalid certificate."
            )
        if self._issuer.encoded != issuer.subject_bytes:
            raise ValueError("Issuer certificate subject does not match certificate issuer.")
        verify_with_algorithm(
            issuer.public_key(), self._algorithm, self.signature, self.tbs_certificate_bytes
        )


def verify_with_algorithm(
    key: keys.PublicKey, algorithm: algorithms.Algorithm, signature: bytes, data: bytes
) -> None:
    """Raise ValueError or InvalidSignatureError unless `key` signed `data` with this algorithm."""
    if isinstance(key, RSAPublicKey):
        padding, hash_ = algorithm.rsa_padding(), algorithm.hash()
        if padding is not None and hash_ is not None:
            return key.verify(signature, data, padding, hash_)
    elif isinstance(key, EllipticCurvePublicKey):
        ecdsa = algorithm.ecdsa()
        if ecdsa is not None and key.curve.n:
            return key.verify(signature, data, ecdsa)
    elif isinstance(key, Ed25519PublicKey) and algorithm.oid == algorithms.ED25519:
        return key.verify(signature, data)
    raise ValueError("Signature algorithm does not match issuer key type")


def load_der_x509_certificate(data: bytes) -> Certificate:
    """Parse a certificate from DER."""
    return Certificate(data)
