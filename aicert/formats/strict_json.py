"""JSON as a verifier reads it: one meaning per document, bounded in size, depth and numbers.

RFC 8259 leaves duplicate keys, NaN, big numbers and lone surrogates to the reader; two readers that
differ are an attack. All of these are refused. `Fields` reads objects, names the path in every
error, and refuses keys that nobody asked for.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import NoReturn, TypeVar, cast

from aicert.errors import EvidenceError
from aicert.formats.fields import MAX_INT, MISSING, Reader, shown

# The deepest document of ours has 8 levels; 32 leaves room and stops recursion attacks early.
MAX_DEPTH = 32
# Each token costs time and up to 250 bytes of memory. A statement about 20,000 files has 250,000;
# every other document of ours stays below 100,000.
MAX_TOKENS = 250_000
# One character beyond Latin-1 makes Python's text two or four times as large as the bytes, and
# folding it can take half a microsecond. Only names of files in statements are not ASCII: 20,000 of
# them, with their digests, fit. Escapes count as well, since they are another way to write them.
MAX_NON_ASCII = 3 << 20
# RFC 8259, 7: an escaped surrogate. Pairs are legal but needless in UTF-8, so all are refused.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")

T = TypeVar("T")


def loads(data: bytes, *, what: str, max_bytes: int, signed: bool = False) -> object:
    """Parse strictly; `what` names the document in errors. Raises EvidenceError only.

    `signed`: whether the bytes are in another writer's form and signed by a key that the caller
    trusts. Then surrogate pairs may be escaped, and only `max_bytes` bounds the work.
    """
    if len(data) > max_bytes:
        raise EvidenceError(f"{what} is larger than {max_bytes} bytes")
    if not signed:
        if len(data) > MAX_NON_ASCII and (b"\\u" in data or not data.isascii()):
            raise EvidenceError(
                f"{what} is larger than {MAX_NON_ASCII} bytes and not ASCII, or escapes characters"
            )
        _check_shape(data, what)
    if _SURROGATE.search(_PAIR.sub(b"", data) if signed else data):
        raise EvidenceError(f"{what} escapes a UTF-16 surrogate")
    try:
        text = data.decode("utf-8")
        if text.startswith("\ufeff"):
            raise EvidenceError(f"{what} starts with a byte order mark")
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_number,
        )
    except UnicodeDecodeError:
        raise EvidenceError(f"{what} is not UTF-8") from None
    except json.JSONDecodeError as error:
        # Some of json's messages end in "at", and so does the text before the place.
        problem = error.msg.removesuffix(" at")
        raise EvidenceError(f"{what} is not JSON: {problem} at byte {error.pos}") from None
    except RecursionError:
        raise EvidenceError(f"{what} is nested too deeply") from None
    except _RefusedError as error:
        raise EvidenceError(f"{what}: {error}") from None


def dumps(value: object) -> bytes:
    """Return our canonical form: sorted keys, no spaces, UTF-8, no NaN.

    Only for documents that we write.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode("utf-8")
    except ValueError as error:
        # A loss that is NaN, or a name with a lone surrogate.
        raise EvidenceError(f"this cannot be written as JSON: {error}") from None


class _RefusedError(Exception):
    pass


# A string (so that its content is not counted), or a character that gives the parser a value or a
# level. An unterminated string matches to the end, so that no quote is scanned twice: linear on any
# input.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)


def _check_shape(data: bytes, what: str) -> None:
    """Check depth and number of tokens before anything is built."""
    depth = 0
    for count, match in enumerate(_TOKEN.finditer(data), 1):
        if count > MAX_TOKENS:
            raise EvidenceError(f"{what} has more than {MAX_TOKENS} strings, brackets and commas")
        first = data[match.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise EvidenceError(f"{what} is nested deeper than {MAX_DEPTH} levels")
        elif first in b"]}":
            depth -= 1


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise _RefusedError(f"key {key[:80]!a} is given twice")
    return result


def _constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a number")


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INT:
        raise _RefusedError(f"number out of range: {text[:24]}")
    if text == "-0":
        raise _RefusedError("number out of range: -0")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if len(text) > 32 or value in (float("inf"), float("-inf")):
        raise _RefusedError(f"number out of range: {text[:40]}")
    return value


class Fields(Reader):
    """One JSON object being read: take each field, then `done()` refuses what is left."""

    __slots__ = ()

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise EvidenceError(f"{where}: expected an object, found {shown(value)}")
        super().__init__(value, where)

    def text(self, key: str, *, max_length: int = 4096) -> str:
        """Return a string of at most `max_length` characters."""
        value = self.take(key, str)
        if len(value) > max_length:
            raise EvidenceError(f"{self.where}.{key} is longer than {max_length} characters")
        return value

    def optional_text(self, key: str, *, max_length: int = 4096) -> str | None:
        """Return a string, or None if the key is absent."""
        return self.text(key, max_length=max_length) if key in self._left else None

    def const(self, key: str, wanted: object) -> None:
        """Require the field to be exactly `wanted`."""
        value = self._left.pop(key, None)
        if type(value) is not type(wanted) or value != wanted:
            raise EvidenceError(f"{self.where}.{key} is not {wanted!r}")

    def integer(self, key: str, *, low: int = 0, high: int = MAX_INT) -> int:
        """Return an integer in `low`..`high`."""
        value = self.take(key, int)
        if not low <= value <= high:
            raise EvidenceError(f"{self.where}.{key} is out of range: {value}")
        return value

    def number(self, key: str) -> float:
        """Return a number that is not negative, written as an integer or not."""
        value = self._left.pop(key, MISSING)
        if value is MISSING:
            raise EvidenceError(f"{self.where}.{key} is missing")
        if type(value) not in (int, float) or not cast(float, value) >= 0:
            raise EvidenceError(
                f"{self.where}.{key}: expected a number from 0, found {shown(value)}"
            )
        return cast(float, value)

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        return self.take(key, bool)

    def fields(self, key: str) -> "Fields":
        """Return the fields of a nested object."""
        return Fields(self.take(key, dict), f"{self.where}.{key}")

    def items(self, key: str, read: Callable[[object, str], T], *, max_items: int) -> tuple[T, ...]:
        """Return a list, each item read by `read(value, where)`."""
        values: list[object] = self.take(key, list)
        if len(values) > max_items:
            raise EvidenceError(f"{self.where}.{key} has more than {max_items} items")
        where = f"{self.where}.{key}"
        return tuple(read(value, f"{where}[{i}]") for i, value in enumerate(values))


def string(value: object, where: str) -> str:
    """Return an item that must be a string of at most 4096 characters."""
    if type(value) is not str or len(value) > 4096:
        raise EvidenceError(f"{where}: expected a short string, found {shown(value)}")
    return value
