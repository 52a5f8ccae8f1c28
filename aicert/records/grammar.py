"""Decide which bytes are canonical rows with a regular expression made from the schema.

A line is canonical if `json.dumps(row, ensure_ascii=False, separators=(",", ":"),
allow_nan=False)` writes it for a row that has exactly the schema's columns, with a line feed at its
end. So each value has one form, and a line can be matched without building anything: that needs no
more memory than the line's bytes, nesting does not recurse, and no lenient parser decides.

A block of lines is checked in four ways. It has no byte below 32 except the line feeds that end
lines. Every backslash begins an escape that the canonical form uses: escaped quotes and backslashes
are first replaced by as many bytes 127, so that strings have no quote inside. The structure matches
the pattern. And what a pattern cannot express: the block is UTF-8, each integer fits 64 bits, and
each float is the shortest text for its value.
"""

import json
import re
from collections.abc import Iterator

from aicert.records.schema import ListOf, Schema, StructOf, Type

MAX_INT = 2**63 - 1
# The longest line. A book takes about a megabyte.
MAX_LINE = 16 << 20
# The most commas and opening brackets on a line: each may be a value that costs a parser 150 bytes.
MAX_PARTS = 1 << 20
_CONTROLS = bytes(range(32))
# Pairs of backslashes are replaced first: then each remaining backslash begins an escape. No name
# and no structure holds a byte 127, so a replacement outside a string matches nothing; neither does
# a backslash there.
PAIR = re.compile(rb'(\\[\\"])')
_NEUTRAL = b"\x7f\x7f"
# One search for both kinds of escape is quicker if there are few, which the beginning of the block
# shows. On a line full of escapes it would take many times the line's memory.
_MOST_AT_ONCE = 1 << 20
_BEGINNING = 1 << 12
_NO_ESCAPE = re.compile(rb"\\(?![nrtbf]|u00(?:0[0-7bef]|1[0-9a-f]))")
# JSON allows more escapes, but half of a surrogate pair is refused: it is not a character.
_NO_JSON_ESCAPE = re.compile(
    rb"\\(?![nrtbf/]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}"
    rb"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?<=\\u[dD][89abAB][0-9a-fA-F]{2}\\)u[dD][c-fC-F][0-9a-fA-F]{2})"
)
_STRING = rb'"[^"]*+"'
_FLOAT = rb"-?[0-9]{1,22}(?:\.[0-9]{1,22}(?:e[-+][0-9]{1,3})?+|e[-+][0-9]{1,3})"
_INT = rb"0|-?[1-9][0-9]{0,18}"
_NUMBER = re.compile(rb"-?[0-9][-+.e0-9]*+")
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
# Integers with fewer digits fit 64 bits.
_LONG = b"0" * 19
_SCALARS = {"string": _STRING, "int": _INT, "float": _FLOAT, "bool": rb"true|false"}


def oversize(line: bytes) -> str | None:
    """Say why a line is too large; None if it is not."""
    if len(line) <= MAX_PARTS:
        return None
    if len(line) > MAX_LINE:
        return f"longer than {MAX_LINE} bytes"
    parts = sum(map(line.count, (b",", b"[", b"{")))
    return f"longer than {MAX_PARTS} commas and brackets" if parts > MAX_PARTS else None


class Grammar:
    """Recognises the canonical rows of one schema.

    If `loose`, it also accepts spaces and needless escapes.
    """

    def __init__(self, schema: Schema, *, loose: bool = False) -> None:
        form = _Form(rb" *+" if loose else b"")
        self._head = re.compile(form.head(schema))
        self._no_escape = _NO_JSON_ESCAPE if loose else _NO_ESCAPE
        self._rows = re.compile(rb"(?:" + form.row(schema) + rb"\n)*+")
        leaves = set(_leaves(StructOf(schema.columns)))
        self._has_floats = "float" in leaves
        self._has_ints = "int" in leaves

    def count(self, lines: bytes) -> int | None:
        """Return the number of rows in `lines`; None if one is not canonical.

        A loose grammar also returns None if the rows do not all begin with the same bytes.
        """
        head = self._head.match(lines)
        if head is None:
            return None
        # If the counts agree, the head of a row follows every line feed except the last, and there
        # is no other control character. A string cannot hold a head: its quote would end the
        # string, and no name begins with what may follow a string.
        rows = lines.count(b"\n" + head[0]) + 1
        if len(lines.translate(None, _CONTROLS)) + rows != len(lines):
            return None
        try:
            lines.decode("utf-8")
        except UnicodeDecodeError:
            return None
        neutral = _without_quotes_inside(lines)
        if self._no_escape.search(neutral) or self._rows.fullmatch(neutral) is None:
            return None
        return rows if self._are_numbers(neutral) else None

    def prefix(self, block: bytes) -> tuple[int, int]:
        """Return how many rows, and how many bytes, at the start of `block` are canonical.

        `block` holds whole lines; what follows begins with a line that is not canonical.
        """
        rows = good = 0
        end = bad = len(block)
        while end > good:
            count = self.count(block[good:end])
            if count is None:
                bad = end
            else:
                rows, good = rows + count, end
            # Next, try half of the remaining lines, measured in bytes.
            middle = (good + bad) // 2
            end = block.find(b"\n", middle, bad - 1) + 1 or block.rfind(b"\n", good, middle) + 1
        return rows, good

    def _are_numbers(self, neutral: bytes) -> bool:
        """Return whether all numbers are in range and in their one form."""
        may_be_long = self._has_ints and _LONG in neutral.translate(_DIGITS)
        if not self._has_floats and not may_be_long:
            return True
        structure = b" ".join(neutral.split(b'"')[::2])
        return all(map(_is_number, _NUMBER.findall(structure)))


def _is_number(text: bytes) -> bool:
    if b"." in text or b"e" in text:
        return repr(float(text)).encode() == text
    return len(text) < len(_LONG) or -MAX_INT - 1 <= int(text) <= MAX_INT


def _without_quotes_inside(lines: bytes) -> bytes:
    if b"\\" not in lines:
        return lines
    if len(lines) <= _MOST_AT_ONCE and not is_full_of_escapes(lines):
        return PAIR.sub(_NEUTRAL, lines)
    return lines.replace(rb"\\", _NEUTRAL).replace(rb"\"", _NEUTRAL)


def is_full_of_escapes(lines: bytes) -> bool:
    """Return whether there are so many escapes that replacing each kind by itself is quicker."""
    return lines.count(b"\\", 0, _BEGINNING) > _BEGINNING >> 6


def _name(name: str) -> bytes:
    return json.dumps(name, ensure_ascii=False).encode() + b":"


class _Form:
    """Makes regular expressions for values, with `space` wherever JSON allows white space."""

    def __init__(self, space: bytes) -> None:
        self._space = space

    def row(self, schema: Schema) -> bytes:
        """Return the expression for a row of that schema, without its line feed."""
        return self._space + self._object(schema.columns) + self._space

    def head(self, schema: Schema) -> bytes:
        """Return the expression for the beginning of each line."""
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
            # A comma is followed by an item, never by the end.
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
