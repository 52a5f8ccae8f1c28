"""Strict DER (X.690): each value has one encoding, and no other is accepted.

A `Reader` returns elements from first to last. A tag or a length that is not in its shortest form,
a truncated element, and a value in any other form are a `ParseError`, with the words of
`cryptography`'s parser. REAL, EXTERNAL and other types that no certificate has are not supported,
nor are lengths of more than four bytes.
"""

from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 1, 2, 3, 4, 5, 6
UTF8_STRING, PRINTABLE_STRING, IA5_STRING, UTC_TIME, GENERALIZED_TIME = 12, 19, 22, 23, 24
VISIBLE_STRING, UNIVERSAL_STRING, BMP_STRING = 26, 28, 30
SEQUENCE, SET = 0x30, 0x31
CONTEXT, CONSTRUCTED = 0x80, 0x20
# The parser of `cryptography` stores no longer OIDs.
MAX_OID_OCTETS = 63
_MAX_OCTETS_OF_LENGTH = 4
_CLASSES = ("Universal", "Application", "ContextSpecific", "Private")

INVALID_VALUE = "invalid value"
INVALID_TAG = "invalid tag"
INVALID_LENGTH = "invalid length"
EXTRA_DATA = "extra data"
SET_ORDER = "SET value was ordered incorrectly"
ENCODED_DEFAULT = "DEFAULT value was explicitly encoded"
INTEGER_OVERFLOW = "integer overflow"


class ParseError(ValueError):
    """The bytes are not DER of the requested type; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"ParseError: {reason}")
        self.reason = reason


class Tag:
    """A tag as encoded: its first byte, and its number."""

    __slots__ = ("first", "number")

    def __init__(self, first: int, number: int) -> None:
        self.first = first
        self.number = number

    def is_octet(self, octet: int) -> bool:
        """Return whether this is the one-byte tag `octet`."""
        return self.number < 0x1F and self.first == octet

    def __str__(self) -> str:
        constructed = str(bool(self.first & CONSTRUCTED)).lower()
        kind = _CLASSES[self.first >> 6]
        return f"Tag {{ value: {self.number}, constructed: {constructed}, class: {kind} }}"


def unexpected(tag: Tag) -> ParseError:
    """Return the error for an element of the wrong type."""
    return ParseError(f"unexpected tag (got {tag})")


class Reader:
    """Reads DER elements one after another."""

    __slots__ = ("data", "place")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def more(self) -> bool:
        """Return whether any bytes are left."""
        return self.place < len(self.data)

    def end(self) -> None:
        """Raise ParseError if any bytes are left."""
        if self.more():
            raise ParseError(EXTRA_DATA)

    def peek(self) -> Tag | None:
        """Return the next element's tag; None if there is no element or its tag is invalid."""
        place = self.place
        try:
            return self._tag()
        except ParseError:
            return None
        finally:
            self.place = place

    def next_is(self, octet: int) -> bool:
        """Return whether the next element has the tag `octet`."""
        tag = self.peek()
        return tag is not None and tag.is_octet(octet)

    def element(self) -> tuple[Tag, bytes, bytes]:
        """Read the next element: return its tag, its content, and its whole encoding."""
        start = self.place
        tag = self._tag()
        content = self._octets(self._length())
        return tag, content, self.data[start : self.place]

    def content(self, octet: int) -> bytes:
        """Read the next element, which must have the tag `octet`, and return its content."""
        tag, content, _ = self.element()
        if not tag.is_octet(octet):
            raise unexpected(tag)
        return content

    def whole(self, octet: int) -> bytes:
        """Read the next element, which must have the tag `octet`, and return its whole encoding."""
        start = self.place
        self.content(octet)
        return self.data[start : self.place]

    def inside(self, octet: int = SEQUENCE) -> "Reader":
        """Read the next element, and return a reader for the elements inside it."""
        return Reader(self.content(octet))

    def explicit(self, number: int, read: Callable[["Reader"], Value]) -> Value | None:
        """Read the value inside an optional explicit tag; return None if it is absent."""
        octet = CONTEXT | CONSTRUCTED | number
        if not self.next_is(octet):
            return None
        inner = self.inside(octet)
        value = read(inner)
        inner.end()
        return value

    def _tag(self) -> Tag:
        if not self.more():
            raise ParseError("short data (needed at least 1 additional bytes)")
        first = self.data[self.place]
        self.place += 1
        if first & 0x1F != 0x1F:
            return Tag(first, first & 0x1F)
        number, read = base128(self.data[self.place :], INVALID_TAG)
        self.place += read
        if number < 0x1F or number >= 1 << 32:
            raise ParseError(INVALID_TAG)
        return Tag(first, number)

    def _octets(self, size: int) -> bytes:
        end = self.place + size
        if end > len(self.data):
            missing = end - len(self.data)
            raise ParseError(f"short data (needed at least {missing} additional bytes)")
        octets = self.data[self.place : end]
        self.place = end
        return octets

    def _length(self) -> int:
        first = self._octets(1)[0]
        if first < 0x80:
            return first
        size = first & 0x7F
        if not 1 <= size <= _MAX_OCTETS_OF_LENGTH:
            raise ParseError(INVALID_LENGTH)
        length = int.from_bytes(self._octets(size))
        if length < (0x80 if size == 1 else 1 << 8 * (size - 1)):
            raise ParseError(INVALID_LENGTH)
        return length


def single(data: bytes, read: Callable[[Reader], Value]) -> Value:
    """Read the only value in these bytes."""
    reader = Reader(data)
    value = read(reader)
    reader.end()
    return value


def items(data: bytes, read: Callable[[Reader], Value]) -> list[Value]:
    """Read every element in the content of a SEQUENCE OF."""
    reader = Reader(data)
    values = []
    while reader.more():
        values.append(read(reader))
    return values


def set_items(data: bytes, read: Callable[[Reader], Value]) -> list[Value]:
    """Read every element in the content of a SET OF, which must be sorted (X.690, 11.6)."""
    reader = Reader(data)
    values = []
    last = b""
    while reader.more():
        start = reader.place
        tag = Reader(reader.data[start:])
        encoded = tag.element()[2]
        values.append(read(reader))
        if encoded < last:
            raise ParseError(SET_ORDER)
        last = encoded
    return values


def base128(data: bytes, reason: str) -> tuple[int, int]:
    """Return a number in groups of seven bits, one per byte, and how many bytes it takes."""
    number = 0
    for place, octet in enumerate(data):
        if place == 0 and octet == 0x80:
            break
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            return number, place + 1
    raise ParseError(reason)


def integer_content(content: bytes) -> int:
    """Decode a signed INTEGER."""
    if not content or (len(content) > 1 and content[0] in (0, 0xFF)
                       and (content[0] ^ content[1]) < 0x80):  # fmt: skip
        raise ParseError(INVALID_VALUE)
    return int.from_bytes(content, signed=True)


def unsigned_content(content: bytes) -> int:
    """Decode a non-negative INTEGER."""
    number = integer_content(content)
    if number < 0:
        raise ParseError(INVALID_VALUE)
    return number


def unsigned(reader: Reader, octet: int = INTEGER) -> int:
    """Read the next element: a non-negative INTEGER."""
    return unsigned_content(reader.content(octet))


def small(reader: Reader, bits: int, octet: int = INTEGER) -> int:
    """Read the next element: a non-negative INTEGER of at most `bits` bits."""
    number = unsigned(reader, octet)
    if number >= 1 << bits:
        raise ParseError(INTEGER_OVERFLOW)
    return number


def boolean(reader: Reader, octet: int = BOOLEAN) -> bool:
    """Read the next element: TRUE or FALSE."""
    content = reader.content(octet)
    if content not in (b"\0", b"\xff"):
        raise ParseError(INVALID_VALUE)
    return content == b"\xff"


def optional_true(reader: Reader) -> bool:
    """Read a BOOLEAN DEFAULT FALSE, which is encoded only if it is TRUE (X.690, 11.5)."""
    if not reader.next_is(BOOLEAN):
        return False
    if not boolean(reader):
        raise ParseError(ENCODED_DEFAULT)
    return True


def null(reader: Reader) -> None:
    """Read the next element: NULL."""
    if reader.content(NULL):
        raise ParseError(INVALID_VALUE)


def oid_content(content: bytes) -> str:
    """Decode an OBJECT IDENTIFIER to its dotted form."""
    if not content:
        raise ParseError(INVALID_VALUE)
    if len(content) > MAX_OID_OCTETS:
        raise ParseError("OBJECT IDENTIFIER was too large to be stored in rust-asn1's buffer")
    numbers = []
    place = 0
    while place < len(content):
        number, read = base128(content[place:], INVALID_VALUE)
        if number >= 1 << 128:
            raise ParseError(INVALID_VALUE)
        numbers.append(number)
        place += read
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def oid(reader: Reader, octet: int = OID) -> str:
    """Read the next element, an OBJECT IDENTIFIER, as its dotted form."""
    return oid_content(reader.content(octet))


class BitString:
    """A BIT STRING: its bytes, and the number of unused bits in the last one."""

    __slots__ = ("octets", "unused")

    def __init__(self, content: bytes) -> None:
        if not content:
            raise ParseError(INVALID_VALUE)
        self.unused, self.octets = content[0], content[1:]
        if self.unused > 7 or (self.unused and not self.octets):
            raise ParseError(INVALID_VALUE)
        if self.unused and self.octets[-1] & ((1 << self.unused) - 1):
            raise ParseError(INVALID_VALUE)

    def bit(self, number: int) -> bool:
        """Return whether bit `number` exists and is set; the first has the number 0."""
        octet = number // 8
        return octet < len(self.octets) and bool(self.octets[octet] >> (7 - number % 8) & 1)


def bits(reader: Reader, octet: int = BIT_STRING) -> BitString:
    """Read the next element: a BIT STRING."""
    return BitString(reader.content(octet))


def text(content: bytes, encoding: str) -> str:
    """Decode a string. Raises ParseError."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise ParseError(INVALID_VALUE) from None


def encoded(octet: int, content: bytes) -> bytes:
    """Encode an element with this tag."""
    size = len(content)
    if size < 0x80:
        return bytes((octet, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((octet, 0x80 | len(length))) + length + content


def encoded_integer(number: int) -> bytes:
    """Encode a non-negative INTEGER."""
    return encoded(INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def encoded_oid(dotted: str) -> bytes:
    """Encode an OBJECT IDENTIFIER."""
    first, second, *others = map(int, dotted.split("."))
    content = bytearray()
    for number in (40 * first + second, *others):
        octets = [number & 0x7F]
        while number := number >> 7:
            octets.append(0x80 | number & 0x7F)
        content += bytes(reversed(octets))
    return encoded(OID, bytes(content))
