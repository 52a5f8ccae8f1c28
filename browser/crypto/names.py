"""Names (RFC 5280, 4.1.2.4) and GeneralNames (4.2.1.6).

Every string in a name uses only its type's alphabet, and no set has an attribute twice.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from browser.crypto import der
from browser.crypto.errors import UnsupportedGeneralNameTypeError

_PRINTABLE = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?"
)
X500_UNIQUE_IDENTIFIER = "2.5.4.45"
# The tags of string types and of what may replace a string, besides BIT STRING.
_STRINGS = frozenset((4, 12, 18, 19, 20, 22, 23, 24, 26, 28, 30))


# The short names of attributes (RFC 4514, 3), and the characters to escape (2.4).
_SHORT = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
_ESCAPES = {**{one: "\\" + one for one in '\\"+,;<>'}, "\0": "\\00"}


@dataclass(frozen=True, slots=True)
class ObjectIdentifier:
    """A dotted object identifier."""

    dotted_string: str


@dataclass(frozen=True, slots=True)
class NameAttribute:
    """An attribute of a name.

    Two attributes are equal if OID and value are equal, whatever the type of the value.
    """

    oid: ObjectIdentifier
    value: str | bytes


class Name:
    """A distinguished name: its encoding, and its sets of attributes."""

    def __init__(self, encoded: bytes, sets: Sequence[Sequence[NameAttribute]]) -> None:
        self._encoded = encoded
        self._sets = sets

    def get_attributes_for_oid(self, oid: ObjectIdentifier) -> list[NameAttribute]:
        """Return the attributes with this OID, in order."""
        return [one for attributes in self._sets for one in attributes if one.oid == oid]

    def rfc4514_string(self) -> str:
        """Return the name in the form of RFC 4514, with the last set first."""
        return ",".join("+".join(map(_shown, attributes)) for attributes in reversed(self._sets))

    def public_bytes(self) -> bytes:
        return self._encoded

    def __eq__(self, other: object) -> bool:
        """Whether both have the same sets of attributes, whatever types the values have."""
        return isinstance(other, Name) and self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def _facts(self) -> tuple[frozenset[NameAttribute], ...]:
        return tuple(map(frozenset, self._sets))


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAttribute:
    """An attribute whose value may have a type that names do not allow."""

    oid: str
    tag: der.Tag
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RawName:
    """A name whose structure is parsed, but whose strings are not."""

    encoded: bytes
    sets: list[list[RawAttribute]]


def read(reader: der.Reader) -> RawName:
    """Read the next element: a Name."""
    encoded = reader.whole(der.SEQUENCE)
    content = der.Reader(encoded).content(der.SEQUENCE)
    return RawName(encoded=encoded, sets=der.items(content, _relative))


def _relative(reader: der.Reader) -> list[RawAttribute]:
    return relative_name(reader.content(der.SET))


def relative_name(content: bytes) -> list[RawAttribute]:
    """Read the attributes of a RelativeDistinguishedName."""
    return der.set_items(content, _attribute)


def _attribute(reader: der.Reader) -> RawAttribute:
    inner = reader.inside()
    oid = der.oid(inner)
    tag, content, _ = inner.element()
    inner.end()
    if tag.is_octet(der.PRINTABLE_STRING) and not _PRINTABLE.issuperset(content):
        raise der.ParseError(der.INVALID_VALUE)
    if tag.is_octet(der.UNIVERSAL_STRING):
        der.text(content, "utf-32-be")
    if tag.is_octet(der.BMP_STRING):
        der.text(content, "utf-16-be")
    return RawAttribute(oid=oid, tag=tag, content=content)


def name(raw: RawName) -> Name:
    """Parse the strings of a name. Raises ValueError or TypeError for invalid ones."""
    return Name(raw.encoded, [checked_relative(relative) for relative in raw.sets])


def _shown(attribute: NameAttribute) -> str:
    """Format an attribute as in RFC 4514, 2.3 and 2.4."""
    value, oid = attribute.value, attribute.oid.dotted_string
    text = f"#{value.hex()}" if isinstance(value, bytes) else _escaped(value)
    return f"{_SHORT.get(oid, oid)}={text if value else ''}"


def _escaped(text: str) -> str:
    text = "".join(_ESCAPES.get(character, character) for character in text)
    if text[:1] == "#" or (text[:1] == " " and len(text) > 1):
        text = "\\" + text
    return text[:-1] + "\\ " if text[-1:] == " " else text


def checked_relative(raw: list[RawAttribute]) -> list[NameAttribute]:
    """Parse the strings of a RelativeDistinguishedName."""
    attributes = [_checked(attribute) for attribute in raw]
    if not attributes:
        raise ValueError("a relative distinguished name cannot be empty")
    if len(set(attributes)) != len(attributes):
        raise ValueError("duplicate attributes are not allowed")
    return attributes


def _checked(raw: RawAttribute) -> NameAttribute:
    oid = ObjectIdentifier(raw.oid)
    if raw.tag.number >= 0x1F:
        raise ValueError("Long-form tags are not supported in NameAttribute values")
    if raw.tag.is_octet(der.BIT_STRING):
        if raw.oid != X500_UNIQUE_IDENTIFIER:
            raise TypeError("oid must be X500_UNIQUE_IDENTIFIER for BitString type.")
        return NameAttribute(oid, raw.content)
    if raw.tag.first not in _STRINGS:
        raise der.unexpected(raw.tag)
    encodings = {der.UNIVERSAL_STRING: "utf-32-be", der.BMP_STRING: "utf-16-be"}
    return NameAttribute(oid, der.text(raw.content, encodings.get(raw.tag.first, "utf-8")))


@dataclass(frozen=True, slots=True)
class GeneralName:
    """A GeneralName: its kind (the number of its tag), and the part of it that is checked."""

    kind: int
    value: object = None


OTHER_NAME, X400_ADDRESS, DIRECTORY_NAME, EDI_PARTY_NAME, IP_ADDRESS, REGISTERED_ID = (
    0,
    3,
    4,
    5,
    7,
    8,
)
DNS_NAME = 2
_TEXTS = (1, DNS_NAME, 6)


def general_name(reader: der.Reader) -> GeneralName:
    """Read the next element, a GeneralName, and parse its structure."""
    tag, content, _ = reader.element()
    kinds: dict[int, Callable[[], object]] = {
        0xA0: lambda: _other_name(content),
        0xA3: lambda: None,
        0xA4: lambda: der.single(content, read),
        0xA5: lambda: None,
        0x87: lambda: content,
        0x88: lambda: der.oid_content(content),
        **dict.fromkeys((0x80 | kind for kind in _TEXTS), lambda: der.text(content, "utf-8")),
    }
    if tag.number >= 0x1F or tag.first not in kinds:
        raise der.unexpected(tag)
    return GeneralName(tag.number, kinds[tag.first]())


def _other_name(content: bytes) -> None:
    reader = der.Reader(content)
    der.oid(reader)
    inner = reader.inside(0xA0)
    inner.element()
    inner.end()
    reader.end()


def general_names(content: bytes) -> list[GeneralName]:
    """Read the content of a SEQUENCE OF GeneralName."""
    return der.items(content, general_name)


def check_general_name(one: GeneralName) -> None:
    """Raise ValueError, TypeError or UnsupportedGeneralNameTypeError for an invalid name."""
    if one.kind in (X400_ADDRESS, EDI_PARTY_NAME):
        raise UnsupportedGeneralNameTypeError("x400Address/EDIPartyName are not supported types")
    if isinstance(one.value, RawName):
        name(one.value)
    if one.kind == IP_ADDRESS and isinstance(one.value, bytes) and len(one.value) not in (4, 16):
        _check_network(one.value)


def check_general_names(names: list[GeneralName]) -> None:
    """Check each of the names."""
    for one in names:
        check_general_name(one)


def _check_network(octets: bytes) -> None:
    half = len(octets) // 2
    base = ipaddress.ip_address(octets[:half])
    if len(octets) % 2:
        raise ValueError(
            "Invalid IPNetwork, must be 8 bytes for IPv4 and 32 bytes for IPv6. "
            f"Found length: {len(octets)}"
        )
    mask, bits = int.from_bytes(octets[half:]), 8 * half
    ones = bits - (~mask & ((1 << bits) - 1)).bit_length()
    if mask != ((1 << ones) - 1) << (bits - ones):
        raise ValueError("Invalid netmask")
    ipaddress.ip_network(f"{base.exploded}/{ones}")
