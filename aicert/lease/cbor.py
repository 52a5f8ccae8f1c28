"""Read and write as much of CBOR (RFC 8949) as a signed token needs, in deterministic form (4.2.1).

Integers, octets, text, arrays and maps whose keys are integers, each with the shortest head, keys
in the order of their octets; nothing else, and nothing of indefinite length. So a value has one
encoding: what is accepted and written again gives the same octets.
"""

from typing import Final, TypeAlias, cast

from aicert.errors import EvidenceError

Value: TypeAlias = "int | bytes | str | list[Value] | dict[int, Value]"
_DEPTH: Final = 4
_ITEMS: Final = 64
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)


def dumps(value: Value, tag: int | None = None) -> bytes:
    """Return the octets of a value, after a tag if one is given."""
    before = b"" if tag is None else _head(_TAG, tag)
    if isinstance(value, int):
        return before + (_head(_NEGATIVE, -1 - value) if value < 0 else _head(_UNSIGNED, value))
    if isinstance(value, bytes):
        return before + _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return before + _head(_TEXT, len(text)) + text
    if isinstance(value, list):
        return before + _head(_ARRAY, len(value)) + b"".join(map(dumps, value))
    pairs = sorted((dumps(key), dumps(one)) for key, one in value.items())
    return before + _head(_MAP, len(pairs)) + b"".join(key + one for key, one in pairs)


def loads(data: bytes, what: str, tag: int | None = None) -> Value:
    """Return the value that exactly these octets encode; EvidenceError for every other form."""
    reader = _Reader(data, what)
    if tag is not None and reader.head() != (_TAG, tag):
        raise EvidenceError(f"{what} has no tag {tag}")
    value = reader.value(_DEPTH)
    if dumps(value, tag) != data:
        raise EvidenceError(f"{what} is not in deterministic form")
    return value


def _head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes([kind << 5 | number])
    for more, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([kind << 5 | more]) + number.to_bytes(size)
    raise ValueError("a number of CBOR has at most eight octets")


class _Reader:
    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise EvidenceError(f"{self._what} ends early")
        self._at += size
        return taken

    def head(self) -> tuple[int, int]:
        """Read the head of an item: its kind and its number."""
        (first,) = self._take(1)
        kind, more = first >> 5, first & 31
        if more < 24:
            return kind, more
        if more > 27:
            raise EvidenceError(f"{self._what} has an indefinite length")
        return kind, int.from_bytes(self._take(1 << more - 24))

    def value(self, depth: int) -> Value:
        """Read the next value, which may hold `depth` more levels."""
        kind, number = self.head()
        if kind in (_UNSIGNED, _NEGATIVE):
            return number if kind == _UNSIGNED else -1 - number
        if kind == _BYTES:
            return self._take(number)
        if kind == _TEXT:
            try:
                return self._take(number).decode()
            except UnicodeDecodeError:
                raise EvidenceError(f"{self._what} has text that is not UTF-8") from None
        if kind not in (_ARRAY, _MAP) or number > _ITEMS or not depth:
            raise EvidenceError(f"{self._what} has a value of another kind, or too many")
        if kind == _ARRAY:
            return [self.value(depth - 1) for _ in range(number)]
        pairs = [(self.value(0), self.value(depth - 1)) for _ in range(number)]
        if not all(isinstance(key, int) for key, _ in pairs):
            raise EvidenceError(f"{self._what} has a key that is no number")
        # A key that is given twice is lost here, so that `loads` finds different octets.
        return dict(cast("list[tuple[int, Value]]", pairs))
