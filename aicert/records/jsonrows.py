"""Parse rows from JSON: one object per line, or one array of objects (RFC 8259, and stricter).

Readers of JSON disagree about keys given twice, NaN, numbers that are too large, halves of
surrogate pairs, byte order marks and line ends; docs/spec/records.md says how each is treated here.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import NoReturn, cast

from aicert.records.errors import RowRefused, quoted
from aicert.records.grammar import MAX_INT, MAX_PARTS

# Longer than any number that a double needs.
MAX_NUMBER = 400
_SPACE = re.compile(r"[ \t\r\n]*")


def parse_row(line: bytes) -> dict[str, object]:
    """Return the one object that a line holds. Raises RowRefused."""
    text = decoded(line).strip(" \t\r\n")
    value, end = parse_value(text, 0)
    if end != len(text):
        raise RowRefused("there is something after the object on its line")
    return value


def parse_value(text: str, start: int) -> tuple[dict[str, object], int]:
    """Return the object that begins at `start`, and where it ends. Raises RowRefused."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise IncompleteError(f"not JSON: {error.msg} at character {error.pos - start}") from None
    except RecursionError:
        raise RowRefused("nested too deeply") from None
    if not isinstance(value, dict):
        raise RowRefused("expected an object, with the columns as its keys")
    return value, end


def decoded(data: bytes) -> str:
    """Decode UTF-8. Raises RowRefused."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise RowRefused("not UTF-8") from None


def as_text(data: bytes) -> str:
    """Decode UTF-8 that must be text: a NUL means an archive or another program's file."""
    text = decoded(data)
    if "\0" in text:
        raise RowRefused("it holds a zero byte, so it is not text, and archives are not unpacked")
    return text


def array_rows(blocks: Iterator[bytes], most: int) -> Iterator[dict[str, object]]:
    """Yield the objects of the array that the blocks hold, none longer than `most` characters."""
    reader = _ArrayReader(blocks, most)
    yield from reader.rows()


class IncompleteError(RowRefused):
    """Raised for text that is not JSON, or not yet: the rest may not have been read."""


class _ArrayReader:
    def __init__(self, blocks: Iterator[bytes], most: int) -> None:
        self._blocks = blocks
        self._most = most
        self._waiting = b""
        self._text = ""
        self._at = 0
        self._ended = False

    def rows(self) -> Iterator[dict[str, object]]:
        self._expect("[")
        if self._peek() != "]":
            yield self._value()
            while self._peek() == ",":
                self._at += 1
                self._peek()
                yield self._value()
        self._expect("]")
        if self._peek():
            raise RowRefused("there is something after the end of the array")

    def _value(self) -> dict[str, object]:
        while True:
            self._check_parts()
            try:
                value, self._at = parse_value(self._text, self._at)
                return value
            except IncompleteError:
                # Read twice as much each time, so that the cost of a long row is proportional to
                # its length.
                wanted = 2 * (len(self._text) - self._at)
                if wanted > 2 * self._most:
                    raise RowRefused(f"longer than {self._most} characters") from None
                if not self._more(wanted):
                    raise

    def _check_parts(self) -> None:
        """Refuse a row with too many values; fewer than two long rows are in memory at once."""
        if len(self._text) - self._at <= MAX_PARTS:
            return
        parts = sum(self._text.count(part, self._at) for part in ",[{")
        if parts > 2 * MAX_PARTS:
            raise RowRefused(f"longer than {MAX_PARTS} commas and brackets")

    def _peek(self) -> str:
        """Skip white space, and return the next character; "" at the end."""
        while True:
            self._at = cast("re.Match[str]", _SPACE.match(self._text, self._at)).end()
            if self._at < len(self._text) or not self._more(0):
                return self._text[self._at : self._at + 1]

    def _expect(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise RowRefused(f"not an array of objects: {wanted!r} is missing")
        self._at += 1

    def _more(self, wanted: int) -> bool:
        """Read on until there are `wanted` characters; return whether there was more to read."""
        parts = [self._text[self._at :]]
        length = len(parts[0])
        self._at = 0
        before = length
        while not self._ended and (length == before or length < wanted):
            block = next(self._blocks, b"")
            self._ended = not block
            text, self._waiting = _split_utf8(self._waiting + block)
            if self._ended and self._waiting:
                raise RowRefused("not UTF-8")
            parts.append(text)
            length += len(text)
        self._text = "".join(parts)
        return length > before


def _split_utf8(data: bytes) -> tuple[str, bytes]:
    """Return the complete characters of `data`, and the bytes of an incomplete last one."""
    try:
        return data.decode("utf-8"), b""
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            raise RowRefused("not UTF-8") from None
        return data[: error.start].decode("utf-8"), data[error.start :]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise RowRefused(f"key {quoted(key)} is given twice")
    return value


def _constant(name: str) -> NoReturn:
    raise RowRefused(f"{name} is not a number")


def _integer(text: str) -> int:
    if text == "-0":
        raise RowRefused("-0 is not an integer")
    if len(text) > 20 or not -MAX_INT - 1 <= int(text) <= MAX_INT:
        raise RowRefused(
            f"{text[:24]} does not fit 64 bits", hint="quote the numbers of that column"
        )
    return int(text)


def _number(text: str) -> float:
    value = float(text) if len(text) <= MAX_NUMBER else float("inf")
    if value in (float("inf"), float("-inf")):
        raise RowRefused(f"{text[:24]} does not fit a 64-bit float")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_constant,
    parse_int=_integer,
    parse_float=_number,
)
