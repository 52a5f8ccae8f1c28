"""The extensions of certificates (RFC 5280, 4.2): everything that `cryptography` parses is parsed
here.

What the verifier uses is kept: basic constraints, key usage, key purposes, key identifiers,
alternative names as encoded, and the values of unknown extensions. Of the others only the form is
checked, because a certificate with a malformed extension is invalid. Stricter than `cryptography`:
the admissions extension (1.3.36.8.3.3) is not parsed, so it counts as unknown.
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from browser.crypto import der, names
from browser.crypto.errors import DuplicateExtensionError, UnsupportedAlgorithmError
from browser.crypto.names import ObjectIdentifier
from browser.crypto.times import generalized_time

_ADMISSIONS = "1.3.36.8.3.3"


@dataclass(frozen=True, slots=True)
class UnrecognizedExtension:
    """An unknown extension, and the bytes of its value."""

    oid: ObjectIdentifier
    value: bytes

    def public_bytes(self) -> bytes:
        return self.value


@dataclass(frozen=True, slots=True)
class BasicConstraints:
    """Whether the certificate is a CA's (4.2.1.9)."""

    oid = ObjectIdentifier("2.5.29.19")
    ca: bool
    path_length: int | None


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What the key may do (4.2.1.3)."""

    oid = ObjectIdentifier("2.5.29.15")
    digital_signature: bool
    content_commitment: bool
    key_encipherment: bool
    data_encipherment: bool
    key_agreement: bool
    key_cert_sign: bool
    crl_sign: bool


@dataclass(frozen=True, slots=True)
class ExtendedKeyUsage:
    """The purposes for which the key may be used (4.2.1.12)."""

    oid = ObjectIdentifier("2.5.29.37")
    usages: tuple[ObjectIdentifier, ...]

    def __iter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 - a tuple's
        return iter(self.usages)


@dataclass(frozen=True, slots=True)
class AuthorityKeyIdentifier:
    """Identifies the issuer's key that signed (4.2.1.1)."""

    oid = ObjectIdentifier("2.5.29.35")
    key_identifier: bytes | None


@dataclass(frozen=True, slots=True)
class SubjectKeyIdentifier:
    """Identifies this certificate's key (4.2.1.2)."""

    oid = ObjectIdentifier("2.5.29.14")
    digest: bytes


@dataclass(frozen=True, slots=True)
class SubjectAlternativeName:
    """Other names of the subject (4.2.1.6), as encoded."""

    oid = ObjectIdentifier("2.5.29.17")
    encoded: bytes

    def public_bytes(self) -> bytes:
        return self.encoded


@dataclass(frozen=True, slots=True)
class CheckedExtension:
    """An extension whose form was checked, but whose value nothing here uses."""

    oid: ObjectIdentifier


@dataclass(frozen=True, slots=True)
class Extension:
    """A parsed extension of a certificate."""

    oid: ObjectIdentifier
    critical: bool
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class RawExtension:
    """An extension whose value has not been parsed."""

    oid: str
    critical: bool
    value: bytes


def read(reader: der.Reader) -> RawExtension:
    """Read the next element: an extension, whose value is left unparsed."""
    inner = reader.inside()
    extension = RawExtension(
        oid=der.oid(inner),
        critical=der.optional_true(inner),
        value=inner.content(der.OCTET_STRING),
    )
    inner.end()
    return extension


def parsed_all(
    raw: Sequence[RawExtension], readers: Mapping[str, Callable[[der.Reader], object]]
) -> list[Extension]:
    """Parse the values of all extensions. Raises ValueError, TypeError and others if invalid."""
    known: set[str] = set()
    for one in raw:
        if one.oid in known:
            raise DuplicateExtensionError(f"Duplicate {one.oid} extension found")
        known.add(one.oid)
    return [_parsed(one, readers) for one in raw]


def _parsed(raw: RawExtension, readers: Mapping[str, Callable[[der.Reader], object]]) -> Extension:
    oid = ObjectIdentifier(raw.oid)
    if raw.oid == _ADMISSIONS and readers is READERS:
        raise UnsupportedAlgorithmError(f"extension {raw.oid}")
    value: object = UnrecognizedExtension(oid, raw.value)
    if raw.oid in readers:
        value = der.single(raw.value, readers[raw.oid]) or CheckedExtension(oid)
    return Extension(oid, raw.critical, value)


def _basic_constraints(reader: der.Reader) -> BasicConstraints:
    inner = reader.inside()
    ca = der.optional_true(inner)
    path_length = der.small(inner, 64) if inner.next_is(der.INTEGER) else None
    inner.end()
    reader.end()
    if path_length is not None and not ca:
        raise ValueError("path_length must be None when ca is False")
    return BasicConstraints(ca, path_length)


def _key_usage(reader: der.Reader) -> KeyUsage:
    bits = der.bits(reader)
    reader.end()
    usages = [bits.bit(number) for number in range(9)]
    if not usages[4] and (usages[7] or usages[8]):
        raise ValueError(
            "encipher_only and decipher_only can only be true when key_agreement is true"
        )
    return KeyUsage(*usages[:7])


def _extended_key_usage(reader: der.Reader) -> ExtendedKeyUsage:
    oids = der.items(reader.content(der.SEQUENCE), der.oid)
    if not oids:
        raise der.ParseError("invalid size")
    return ExtendedKeyUsage(tuple(map(ObjectIdentifier, oids)))


def _subject_key_identifier(reader: der.Reader) -> SubjectKeyIdentifier:
    return SubjectKeyIdentifier(reader.content(der.OCTET_STRING))


def _authority_key_identifier(reader: der.Reader) -> AuthorityKeyIdentifier:
    inner = reader.inside()
    identifier = inner.content(0x80) if inner.next_is(0x80) else None
    issuer = names.general_names(inner.content(0xA1)) if inner.next_is(0xA1) else None
    serial = der.integer_content(inner.content(0x82)) if inner.next_is(0x82) else None
    inner.end()
    reader.end()
    names.check_general_names(issuer or [])
    if (issuer is None) != (serial is None):
        raise ValueError(
            "authority_cert_issuer and authority_cert_serial_number must both be present or both "
            "None"
        )
    return AuthorityKeyIdentifier(identifier)


def _alternative_name(reader: der.Reader) -> None:
    general = names.general_names(reader.content(der.SEQUENCE))
    reader.end()
    names.check_general_names(general)


def _subject_alternative_name(reader: der.Reader) -> SubjectAlternativeName:
    # Strict DER allows only one form, so these bytes equal those that the original would encode.
    encoded = reader.whole(der.SEQUENCE)
    general = names.general_names(der.Reader(encoded).content(der.SEQUENCE))
    reader.end()
    names.check_general_names(general)
    return SubjectAlternativeName(encoded)


def _access(reader: der.Reader) -> None:
    """Check authority or subject information access (4.2.2)."""

    def description(one: der.Reader) -> names.GeneralName:
        inner = one.inside()
        der.oid(inner)
        location = names.general_name(inner)
        inner.end()
        return location

    locations = der.items(reader.content(der.SEQUENCE), description)
    reader.end()
    names.check_general_names(locations)


_CPS, _USER_NOTICE = "1.3.6.1.5.5.7.2.1", "1.3.6.1.5.5.7.2.2"


def _policies(reader: der.Reader) -> None:
    """Check certificate policies (4.2.1.4)."""
    policies = der.items(reader.content(der.SEQUENCE), _policy)
    reader.end()
    for qualifiers in policies:
        for oid, is_text in qualifiers:
            if is_text and oid != _CPS:
                raise ValueError("CpsUri ASN.1 structure found but OID did not match")
            if not is_text and oid != _USER_NOTICE:
                raise ValueError("UserNotice ASN.1 structure found but OID did not match")


def _policy(reader: der.Reader) -> list[tuple[str, bool]]:
    inner = reader.inside()
    der.oid(inner)
    qualifiers = der.items(inner.content(der.SEQUENCE), _qualifier) if inner.next_is(0x30) else []
    inner.end()
    return qualifiers


def _qualifier(reader: der.Reader) -> tuple[str, bool]:
    """Return the qualifier's OID, and whether it is a text (otherwise it is a notice)."""
    inner = reader.inside()
    oid = der.oid(inner)
    is_text = not inner.next_is(der.SEQUENCE)
    if is_text:
        der.text(inner.content(der.IA5_STRING), "ascii")
    else:
        _notice(inner.inside())
    inner.end()
    return oid, is_text


def _notice(reader: der.Reader) -> None:
    if reader.next_is(der.SEQUENCE):
        reference = reader.inside()
        if not _display_text(reference):
            tag, _, _ = reference.element()
            raise der.unexpected(tag)
        der.items(reference.content(der.SEQUENCE), der.unsigned)
        reference.end()
    _display_text(reader)
    reader.end()


def _display_text(reader: der.Reader) -> bool:
    """Read an optional DisplayText; return whether there was one."""
    encodings = {
        der.IA5_STRING: "ascii",
        der.UTF8_STRING: "utf-8",
        der.VISIBLE_STRING: "utf-8",
        der.BMP_STRING: "utf-16-be",
    }
    for octet, encoding in encodings.items():
        if reader.next_is(octet):
            der.text(reader.content(octet), encoding)
            return True
    return False


def _policy_constraints(reader: der.Reader) -> None:
    inner = reader.inside()
    numbers = [der.small(inner, 64, octet) for octet in (0x80, 0x81) if inner.next_is(octet)]
    inner.end()
    reader.end()
    if not numbers:
        raise ValueError(
            "At least one of require_explicit_policy and inhibit_policy_mapping must not be None"
        )


def _name_constraints(reader: der.Reader) -> None:
    inner = reader.inside()
    trees = {
        which: der.items(inner.content(octet), _subtree)
        for which, octet in (("permitted", 0xA0), ("excluded", 0xA1))
        if inner.next_is(octet)
    }
    inner.end()
    reader.end()
    for tree in trees.values():
        names.check_general_names(tree)
    for which, tree in trees.items():
        if not tree:
            raise ValueError(f"{which}_subtrees must be a non-empty list or None")
        for one in tree:
            if one.kind == names.IP_ADDRESS and len(bytes(one.value)) in (4, 16):  # type: ignore[call-overload]
                raise TypeError(
                    "IPAddress name constraints must be an IPv4Network or IPv6Network object"
                )
        if any(one.kind == names.DNS_NAME and "*" in str(one.value) for one in tree):
            raise ValueError("DNSName name constraints must not contain the '*' wildcard character")
    if not trees:
        raise ValueError(
            "At least one of permitted_subtrees and excluded_subtrees must not be None"
        )


def _subtree(reader: der.Reader) -> names.GeneralName:
    inner = reader.inside()
    base = names.general_name(inner)
    if inner.next_is(0x80) and der.small(inner, 64, 0x80) == 0:
        raise der.ParseError(der.ENCODED_DEFAULT)
    if inner.next_is(0x81):
        der.small(inner, 64, 0x81)
    inner.end()
    return base


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """A distribution point (4.2.1.13)."""

    full: list[names.GeneralName] | None
    relative: list[names.RawAttribute] | None
    issuer: list[names.GeneralName] | None


def _distribution_points(reader: der.Reader) -> None:
    points = der.items(reader.content(der.SEQUENCE), _distribution_point)
    reader.end()
    for point in points:
        names.check_general_names(point.full or [])
        if point.relative is not None:
            names.checked_relative(point.relative)
        names.check_general_names(point.issuer or [])
        if not point.full and not point.relative and not point.issuer:
            raise ValueError("Either full_name, relative_name or crl_issuer must be provided.")


def _distribution_point(reader: der.Reader) -> _Point:
    inner = reader.inside()
    full, relative = inner.explicit(0, point_name) or (None, None)
    if inner.next_is(0x81):
        der.bits(inner, 0x81)
    issuer = names.general_names(inner.content(0xA2)) if inner.next_is(0xA2) else None
    inner.end()
    return _Point(full=full, relative=relative, issuer=issuer)


def point_name(
    reader: der.Reader,
) -> tuple[list[names.GeneralName] | None, list[names.RawAttribute] | None]:
    """Read a DistributionPointName, full or relative to the issuer; the other one is None."""
    tag, content, _ = reader.element()
    if tag.is_octet(0xA0):
        return names.general_names(content), None
    if tag.is_octet(0xA1):
        return None, names.relative_name(content)
    raise der.unexpected(tag)


def _tls_feature(reader: der.Reader) -> None:
    features = der.items(reader.content(der.SEQUENCE), lambda one: der.small(one, 64))
    reader.end()
    for feature in features:
        if feature not in (5, 17):
            raise KeyError(feature)
    if not features:
        raise TypeError("features must be a list of elements from the TLSFeatureType enum")


def _template(reader: der.Reader) -> None:
    inner = reader.inside()
    der.oid(inner)
    for _ in range(2):
        if inner.next_is(der.INTEGER):
            der.small(inner, 32)
    inner.end()


def _usage_period(reader: der.Reader) -> None:
    """Check a PrivateKeyUsagePeriod (RFC 3280, 4.2.1.4)."""
    inner = reader.inside()
    times = [
        generalized_time(inner.content(octet)) if inner.next_is(octet) else None
        for octet in (0x80, 0x81)
    ]
    inner.end()
    reader.end()
    start, end = (None if time is None else time.value() for time in times)
    if start is None and end is None:
        raise ValueError("At least one of not_before and not_after must not be None")
    if isinstance(start, datetime.datetime) and end is not None and start > end:
        raise ValueError("not_before must be before not_after")


def _certificate_timestamps(reader: der.Reader) -> None:
    """Check a list of timestamps in TLS encoding, inside its own OCTET STRING (RFC 6962, 3.3)."""
    content = reader.content(der.OCTET_STRING)
    reader.end()
    listed, rest = _with_length(content)
    if rest:
        raise ValueError("Invalid SCT length")
    while listed:
        one, listed = _with_length(listed)
        _check_timestamp(one)


def _with_length(data: bytes) -> tuple[bytes, bytes]:
    """Return a value that has a two-byte length in front, and the bytes after it."""
    end = 2 + int.from_bytes(data[:2])
    if len(data) < 2 or len(data) < end:
        raise ValueError("Invalid SCT length")
    return data[2:end], data[end:]


def _check_timestamp(data: bytes) -> None:
    if not data:
        raise ValueError("Invalid SCT length")
    if data[0] != 0:
        raise ValueError("Invalid SCT version")
    if len(data) < 41:
        raise ValueError("Invalid SCT length")
    _, rest = _with_length(data[41:])
    for kind, known in (("hash", range(1, 7)), ("signature", range(4))):
        if not rest:
            raise ValueError("Invalid SCT length")
        if rest[0] not in known:
            raise ValueError(f"Invalid/unsupported {kind} algorithm for SCT: {rest[0]}")
        rest = rest[1:]
    _, rest = _with_length(rest)
    if rest:
        raise ValueError("Invalid SCT length")


READERS: Mapping[str, Callable[[der.Reader], object]] = {
    "2.5.29.14": _subject_key_identifier,
    "2.5.29.15": _key_usage,
    "2.5.29.16": _usage_period,
    "2.5.29.17": _subject_alternative_name,
    "2.5.29.18": _alternative_name,
    "2.5.29.19": _basic_constraints,
    "2.5.29.30": _name_constraints,
    "2.5.29.31": _distribution_points,
    "2.5.29.32": _policies,
    "2.5.29.35": _authority_key_identifier,
    "2.5.29.36": _policy_constraints,
    "2.5.29.37": _extended_key_usage,
    "2.5.29.46": _distribution_points,
    "2.5.29.54": lambda reader: der.unsigned(reader) and None,
    "1.3.6.1.5.5.7.1.1": _access,
    "1.3.6.1.5.5.7.1.11": _access,
    "1.3.6.1.5.5.7.1.24": _tls_feature,
    "1.3.6.1.5.5.7.48.1.5": der.null,
    "1.3.6.1.4.1.311.21.7": _template,
    "1.3.6.1.4.1.11129.2.4.2": _certificate_timestamps,
    "1.3.6.1.4.1.11129.2.4.3": der.null,
}
