"""Read and write DER as in signed structures (X.690, 8 and 10): lengths are definite and shortest.

A `Der` reads the elements of one structure in order: each is taken by its tag, and `done` refuses
what is left. Tags have one octet: nothing that is read here has longer ones. Left out: indefinite
lengths (BER), and what an element's content means.
"""

from aicert.errors import EvidenceError
from aicert.frozen import dataclass

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OBJECT_ID = 0x01, 0x02, 0x03, 0x04, 0x06
GENERALIZED_TIME, SEQUENCE, SET = 0x18, 0x30, 0x31


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element: its tag, its content, and all of its bytes."""

    tag: int
    content: bytes
    encoded: bytes


class Der:
    """A reader of the elements of `data`, in order; errors call the data `what`."""

    __slots__ = ("_rest", "what")

    def __init__(self, data: bytes, what: str) -> None:
        self._rest = data
        self.what = what

    def take(self, tag: int) -> Element:
        """Return the next element, which must have this tag."""
        if not self.follows(tag):
            present = f"0x{self._rest[0]:02x}" if self._rest else "its end"
            raise EvidenceError(f"{self.what}: expected DER tag 0x{tag:02x}, found {present}")
        element = _element(self._rest, self.what)
        self._rest = self._rest[len(element.encoded) :]
        return element

    def inside(self, tag: int) -> "Der":
        """Return a reader of the elements inside the next one, which must have this tag."""
        return Der(self.take(tag).content, self.what)

    def integer(self) -> int:
        """Return the value of the next element, an INTEGER in its shortest form."""
        content = self.take(INTEGER).content
        # X.690, 8.3.2: the first nine bits must not all be equal.
        padded = len(content) > 1 and content[0] == (0xFF if content[1] & 0x80 else 0)
        if not content or padded:
            raise EvidenceError(f"{self.what}: an INTEGER is not in its shortest form")
        return int.from_bytes(content, signed=True)

    def follows(self, tag: int) -> bool:
        """Return whether the next element has this tag."""
        return self._rest[:1] == bytes((tag,))

    def rest(self, tag: int, most: int) -> list[Element]:
        """Return every remaining element: at most `most`, each with this tag."""
        elements: list[Element] = []
        while self._rest:
            if len(elements) == most:
                raise EvidenceError(f"{self.what}: more than {most} elements in one structure")
            elements.append(self.take(tag))
        return elements

    def done(self) -> None:
        """Raise EvidenceError if anything is left."""
        if self._rest:
            raise EvidenceError(f"{self.what}: {len(self._rest)} trailing bytes")


def one(data: bytes, tag: int, what: str) -> Der:
    """Return a reader of the elements inside the one element that `data` consists of."""
    outer = Der(data, what)
    inner = outer.inside(tag)
    outer.done()
    return inner


def _element(data: bytes, what: str) -> Element:
    first = data[1] if len(data) > 1 else 0x80
    octets = first - 0x80 if first > 0x80 else 0
    start = 2 + octets
    size = int.from_bytes(data[2:start]) if octets else first
    # X.690, 10.1: a length is definite and has no more octets than needed. No length that is read
    # here has three.
    shortest = size >= (0x80 if octets == 1 else 0x100) if octets else first != 0x80
    if octets > 2 or not shortest:
        raise EvidenceError(f"{what}: a length is not in its shortest form")
    if start + size > len(data):
        raise EvidenceError(f"{what} is cut short")
    return Element(tag=data[0], content=data[start : start + size], encoded=data[: start + size])


def encode(tag: int, *contents: bytes) -> bytes:
    """Return one element with this tag around `contents`."""
    content = b"".join(contents)
    size = len(content)
    octets = b"" if size < 0x80 else size.to_bytes((size.bit_length() + 7) // 8)
    length = bytes((0x80 + len(octets),)) + octets if octets else bytes((size,))
    return bytes((tag,)) + length + content


def encode_integer(value: int) -> bytes:
    """Return an INTEGER for a value that is not negative."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))
