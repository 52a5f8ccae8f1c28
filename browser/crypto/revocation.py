"""Certificate revocation lists (RFC 5280, clause 5): parse a list, check its signer, look up
entries.

As for certificates, the structure is parsed at once, but strings and the values of extensions on
demand. Extensions of entries are ignored, because nobody uses them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from browser.crypto import algorithms, der, extensions, keys, names, times
from browser.crypto.certificate import verify_with_algorithm
from browser.crypto.errors import (
    InvalidSignatureError,
    InvalidVersionError,
    UnsupportedAlgorithmError,
)
from browser.crypto.hashes import HashAlgorithm
from browser.crypto.names import Name

_VERSION_2 = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedCertificate:
    """An entry: the certificate's serial number, and when it was revoked."""

    serial_number: int
    since: times.Time

    @property
    def revocation_date_utc(self) -> datetime:
        return self.since.value()


def _entry(reader: der.Reader) -> RevokedCertificate:
    inner = reader.inside()
    entry = RevokedCertificate(
        serial_number=der.integer_content(inner.content(der.INTEGER)), since=times.read(inner)
    )
    if inner.next_is(der.SEQUENCE):
        der.items(inner.content(der.SEQUENCE), extensions.read)
    inner.end()
    return entry


class CertificateRevocationList:
    """A parsed revocation list."""

    def __init__(self, encoded: bytes) -> None:
        reader = der.Reader(encoded)
        inner = reader.inside()
        self.tbs_certlist_bytes = inner.whole(der.SEQUENCE)
        self._read_signed_part(der.Reader(self.tbs_certlist_bytes).inside())
        self._algorithm = algorithms.read(inner)
        self.signature = der.bits(inner).octets
        inner.end()
        reader.end()
        if self._version != _VERSION_2:
            raise InvalidVersionError(f"{self._version} is not a valid CRL version")
        if self._inner_algorithm.encoded != self._algorithm.encoded:
            raise ValueError("Inner and outer signature algorithms do not match.")

    def _read_signed_part(self, reader: der.Reader) -> None:
        self._version = der.small(reader, 8) if reader.next_is(der.INTEGER) else _VERSION_2
        self._inner_algorithm = algorithms.read(reader)
        self._issuer = names.read(reader)
        self._start = times.read(reader)
        has_end = reader.next_is(der.UTC_TIME) or reader.next_is(der.GENERALIZED_TIME)
        self._end = times.read(reader) if has_end else None
        has_entries = reader.next_is(der.SEQUENCE)
        self._entries = der.items(reader.content(der.SEQUENCE), _entry) if has_entries else []
        self._extensions = (
            reader.explicit(
                0, lambda inner: der.items(inner.content(der.SEQUENCE), extensions.read)
            )
            or []
        )
        reader.end()

    @property
    def issuer(self) -> Name:
        return names.name(self._issuer)

    @property
    def last_update_utc(self) -> datetime:
        return self._start.value()

    @property
    def next_update_utc(self) -> datetime | None:
        return None if self._end is None else self._end.value()

    @property
    def extensions(self) -> list[extensions.Extension]:
        """The parsed extensions, in order. Errors are those of `extensions.parsed_all`."""
        return extensions.parsed_all(self._extensions, _READERS)

    @property
    def signature_hash_algorithm(self) -> HashAlgorithm | None:
        if self._algorithm.oid == algorithms.RSASSA_PSS:
            # The name of the algorithm alone does not determine the hash.
            raise UnsupportedAlgorithmError(
                f"Signature algorithm OID: {self._algorithm.oid} not recognized"
            )
        return self._algorithm.hash()

    def is_signature_valid(self, public_key: keys.PublicKey) -> bool:
        """Return whether that key signed the list."""
        try:
            verify_with_algorithm(
                public_key, self._algorithm, self.signature, self.tbs_certlist_bytes
            )
        except (InvalidSignatureError, UnsupportedAlgorithmError, ValueError):
            return False
        return True

    def get_revoked_certificate_by_serial_number(self, serial: int) -> RevokedCertificate | None:
        """Return the first entry with this serial number; None if it is not on the list."""
        return next((one for one in self._entries if one.serial_number == serial), None)


def load_der_x509_crl(data: bytes) -> CertificateRevocationList:
    """Parse a revocation list from DER."""
    return CertificateRevocationList(data)


def _issuing_distribution_point(reader: der.Reader) -> None:
    """Check an IssuingDistributionPoint, which says what the list covers (5.2.5)."""
    inner = reader.inside()
    full, relative = inner.explicit(0, extensions.point_name) or (None, None)
    users, issuers = _flag(inner, 0x81), _flag(inner, 0x82)
    reasons = der.bits(inner, 0x83) if inner.next_is(0x83) else None
    indirect, attributes = _flag(inner, 0x84), _flag(inner, 0x85)
    inner.end()
    reader.end()
    names.check_general_names(full or [])
    if relative is not None:
        names.checked_relative(relative)
    has_reasons = reasons is not None and any(reasons.bit(number) for number in range(1, 9))
    if users + issuers + attributes > 1:
        raise ValueError("Only one of the following can be set to True")
    if not any((users, issuers, attributes, indirect, full, relative, has_reasons)):
        raise ValueError("Cannot create empty extension")


def _flag(reader: der.Reader, octet: int) -> bool:
    if not reader.next_is(octet):
        return False
    if not der.boolean(reader, octet):
        raise der.ParseError(der.ENCODED_DEFAULT)
    return True


_SAME = ("2.5.29.18", "2.5.29.35", "2.5.29.46", "1.3.6.1.5.5.7.1.1")
_READERS: Mapping[str, Callable[[der.Reader], object]] = {
    **{oid: extensions.READERS[oid] for oid in _SAME},
    "2.5.29.20": extensions.READERS["2.5.29.54"],
    "2.5.29.27": extensions.READERS["2.5.29.54"],
    "2.5.29.28": _issuing_distribution_point,
}
