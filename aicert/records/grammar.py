"""Which bytes are canonical rows: a regular expression made from the schema, and no parser.

A line is canonical if it is what `json.dumps(row, ensure_ascii=False, separators=(",", ":"),
allow_nan=False)` writes of a row that has exactly the schema's columns, and a line feed. So each
value has one form, and the form of a line can be matched without building anything: memory is that
of the bytes, no nesting recurses, and no reader's leniency decides.

Four looks at a block of lines. No byte below 32 but the line feed that ends a line. Escaped quotes
and backslashes are replaced by as many bytes 127, so that strings have no quote inside; a backslash
that is left begins one of the other escapes that are written. Then the structure. Then what is no
matter of form:
UTF-8, that an integer fits 64 bits, and that a float is the shortest text that gives it.
"""

import json
import re
from collections.abc import Iterator

from aicert.records.schema import ListOf, Schema, StructOf, Type

MAX_INT = 2**63 - 1
# The longest line; a book is a megabyte.
MAX_LINE = 16 << 20
# Commas and opening brackets on a line: each may be a value that takes a parser 150 bytes.
MAX_PARTS = 1 << 20
_CONTROLS = bytes(byte for byte in range(32) if byte != 10)
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")
# Pairs of backslashes first: then each one left begins an escape. 127 stands in no name and in no
# structure, so what is replaced outside a string matches nothing; nor does a backslash there.
_PAIRS = (rb"\\", rb"\"")
_PAIR = re.compile(rb'\\[\\"]')
# Above that, one at a time: a search for both is quicker where they are few, and takes many times
# the memory of a line that is full of them.
_MOST_AT_ONCE = 1 << 20
_NO_ESCAPE = re.compile(rb"\\(?![nrtbf]|u00(?:0[0-7bef]|1[0-9a-f]))")
_NO_JSON_ESCAPE = re.compile(rb"\\(?![nrtbf/]|u[0-9a-fA-F]{4})")
_STRING = rb'"[^"]*+"'
_FLOAT = rb"-?[0-9]{1,22}(?:\.[0-9]{1,22}(?:e[-+][0-9]{1,3})?+|e[-+][0-9]{1,3})"
_INT = rb"0|-?[1-9][0-9]{0,18}"
_NUMBER = re.compile(rb"-?[0-9][-+.e0-9]*+")
_NUMBERS = re.compile(_STRING + rb"|(" + _NUMBER.pattern + rb")")
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
# Shorter ones fit 64 bits.
_LONG = b"0" * 19
_SCALARS = {"string": _STRING, "int": _INT, "float": _FLOAT, "bool": rb"true|false"}


def oversize(line: bytes) -> str | None:
    """Why a line is too large, if it is."""
    if len(line) <= MAX_PARTS:
        return None
    if len(line) > MAX_LINE:
        return f"longer than {MAX_LINE} bytes"
    parts = sum(map(line.count, (b",", b"[", b"{")))
    return f"longer than {MAX_PARTS} commas and brackets" if parts > MAX_PARTS else None


class Grammar:
    """The canonical rows of one schema; if `loose`, also with spaces and needless escapes.

    The loose ones only say that rows bring no new column: halves of surrogate pairs pass.
    """

    def __init__(self, schema: Schema, *, loose: bool = False) -> None:
        form = _Form(rb" *+" if loose else b"")
        self._no_escape = _NO_JSON_ESCAPE if loose else _NO_ESCAPE
        self._rows = re.compile(rb"(?:" + form.row(schema) + rb"\n)*+")
        # What may not follow a line feed; and what does, where that is the same in every row.
        self._inside = re.compile(rb"\n(?!" + form.head(schema) + rb")")
        self._head = None if loose else b"\n{" + _name(schema.columns[0][0])
        leaves = set(_leaves(StructOf(schema.columns)))
        self._has_floats = "float" in leaves
        self._has_ints = "int" in leaves

    def prefix(self, block: bytes) -> int:
        """How many bytes of `block`, which is whole lines, are canonical rows from its start.

        What follows them begins with a line that is none.
        """
        end = _plain_until(block)
        neutral = _without_quotes_inside(block[:end])
        wrong = self._no_escape.search(neutral)
        if wrong is not None:
            neutral = neutral[: neutral.rfind(b"\n", 0, wrong.start()) + 1]
        matched = self._rows.match(neutral)
        end = 0 if matched is None else matched.end()
        end = self._lines_until(neutral, end)
        may_be_long = self._has_ints and _LONG in neutral.translate(_DIGITS)
        return self._numbers_until(neutral, end) if self._has_floats or may_be_long else end

    def _lines_until(self, neutral: bytes, end: int) -> int:
        """Where the first row begins that has a line feed in a string.

        What follows a line feed is the head of a row. In a string it cannot be: the quote in it
        would end the string, and no name begins with what may come after one.
        """
        if self._head is not None:
            heads = neutral.count(self._head, 0, end) + (end > 0)
            if heads == neutral.count(b"\n", 0, end):
                return end
        inside = self._inside.search(neutral, 0, end - 1)
        return end if inside is None else neutral.rfind(b"\n", 0, inside.start()) + 1

    @staticmethod
    def _numbers_until(neutral: bytes, end: int) -> int:
        """Where the first row begins that has a number out of range or not in its one form."""
        structure = b" ".join(neutral[:end].split(b'"')[::2])
        if all(map(_is_number, _NUMBER.findall(structure))):
            return end
        starts = (
            number.start()
            for number in _NUMBERS.finditer(neutral, 0, end)
            if number[1] is not None and not _is_number(number[1])
        )
        return neutral.rfind(b"\n", 0, next(starts, 0)) + 1


def _is_number(text: bytes) -> bool:
    if b"." in text or b"e" in text:
        return repr(float(text)).encode() == text
    return len(text) < len(_LONG) or -MAX_INT - 1 <= int(text) <= MAX_INT


def _plain_until(block: bytes) -> int:
    """Where the first line begins that has a control character or is not UTF-8."""
    end = len(block)
    if len(block.translate(None, _CONTROLS)) != end:
        control = _CONTROL.search(block)
        end = end if control is None else control.start()
    try:
        block[:end].decode("utf-8")
    except UnicodeDecodeError as error:
        end = error.start
    return end if end == len(block) else block.rfind(b"\n", 0, end) + 1


def _without_quotes_inside(block: bytes) -> bytes:
    if b"\\" in block and len(block) <= _MOST_AT_ONCE:
        return _PAIR.sub(b"\x7f\x7f", block)
    for pair in _PAIRS if b"\\" in block else ():
        block = block.replace(pair, b"\x7f\x7f")
    return block


def _name(name: str) -> bytes:
    return json.dumps(name, ensure_ascii=False).encode() + b":"


class _Form:
    """Regular expressions of values, with `space` wherever JSON allows some."""

    def __init__(self, space: bytes) -> None:
        self._space = space

    def row(self, schema: Schema) -> bytes:
        """A line of that schema, without its end."""
        return self._space + self._object(schema.columns) + self._space

    def head(self, schema: Schema) -> bytes:
        """How each line begins."""
        name = re.escape(_name(schema.columns[0][0])[:-1])
        return self._space + rb"\{" + self._space + name + self._space + b":"

    def _object(self, fields: tuple[tuple[str, Type], ...]) -> bytes:
        space = self._space
        listed = [
            space + re.escape(_name(name)[:-1]) + space + b":" + space + self._value(kind) + space
            for name, kind in fields
        ]
        return rb"\{" + (b",".join(listed) or space) + rb"\}"

    def _value(self, kind: Type) -> bytes:
        if kind == "null":
            return rb"null"
        if isinstance(kind, StructOf):
            form = self._object(kind.fields)
        elif isinstance(kind, ListOf):
            # A comma comes before an item and not before the end.
            space = self._space
            item = self._value(kind.item) + space
            form = rb"\[" + space + rb"(?:" + item + rb"(?:," + space + rb"(?!\])|(?=\])))*+\]"
        else:
            form = _SCALARS[kind]
        return rb"(?:" + form + rb"|null)"


def _leaves(kind: Type) -> Iterator[str]:
    if isinstance(kind, ListOf):
        yield from _leaves(kind.item)
    elif isinstance(kind, StructOf):
        for _, inner in kind.fields:
            yield from _leaves(inner)
    else:
        yield kind
