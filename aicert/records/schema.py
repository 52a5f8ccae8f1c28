"""The schema of canonical rows: their columns and types, with exactly one form as bytes.

    {"columns":[["text","string"],["scores",{"list":"float"}],
                ["from",{"struct":[["name","string"],["page","int"]]}]],"version":1}

That form is JSON without spaces (docs/spec/records.md); `parse` accepts what `emit` writes and
nothing else. The list of types is closed, and every value may be null. Column names are short and
have no quotes or backslashes, so that JSON can write each in only one way.
"""

import json
from collections.abc import Iterator
from typing import Literal, cast, get_args

from aicert.errors import EvidenceError
from aicert.formats.strict_json import loads
from aicert.frozen import dataclass
from aicert.records.errors import RowRefused, quoted

Scalar = Literal["string", "int", "float", "bool", "null"]
SCALARS: frozenset[str] = frozenset(get_args(Scalar))
# Chats with tool calls nest 6 deep. The schema's own JSON takes 3 levels for each.
MAX_DEPTH = 9
# The most columns and fields together; tables of features with a thousand columns exist.
MAX_NODES = 4096
MAX_NAME = 256
# The most characters of all names together, because the grammar spells each of them out.
MAX_NAMES = 1 << 17
# A character has up to four bytes, and each name comes with about 20 bytes of JSON.
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list whose items are all of one type."""

    item: "Type"


@dataclass(frozen=True, slots=True)
class StructOf:
    """An object with these fields, in this order."""

    fields: tuple[tuple[str, "Type"], ...]


Type = Scalar | ListOf | StructOf


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of every row, in the order in which each row has them."""

    columns: tuple[tuple[str, Type], ...]

    def __post_init__(self) -> None:
        if not self.columns:
            raise RowRefused("there are no columns")
        sizes = list(_checked(StructOf(self.columns), 0))
        if len(sizes) > MAX_NODES or sum(sizes) > MAX_NAMES:
            raise RowRefused(
                f"there are more than {MAX_NODES} columns and fields, or their names have more "
                f"than {MAX_NAMES} characters"
            )

    def emit(self) -> bytes:
        """Return the one form of this schema, without a line feed."""
        columns = [[name, _plain(kind)] for name, kind in self.columns]
        document = {"columns": columns, "version": 1}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @staticmethod
    def parse(data: bytes) -> "Schema":
        """Read a schema that `emit` wrote; anything else is an EvidenceError."""
        document = loads(data, what="schema of rows", max_bytes=MAX_BYTES)
        columns = document.get("columns") if isinstance(document, dict) else None
        try:
            schema = Schema(_pairs(columns))
        except (RowRefused, RecursionError) as error:
            raise EvidenceError(f"schema of rows: {error}") from None
        if schema.emit() != data:
            raise EvidenceError("schema of rows is not in canonical form")
        return schema


def check_name(name: str) -> None:
    """Refuse the name of a column or field if a row could write it in two ways.

    Invisible characters and names that are empty or too long are refused, too.
    """
    plain = name.isprintable() and '"' not in name and "\\" not in name
    # The grammar counts rows by the name that each begins with.
    if not plain or not 0 < len(name) <= MAX_NAME or name[0] in ",:]}":
        raise RowRefused(
            f"the name of column {quoted(name)} is empty, longer than {MAX_NAME} characters, "
            "begins with one of `,:]}` or has a quote, a backslash or an invisible character"
        )


def _checked(kind: Type, depth: int) -> Iterator[int]:
    """Check every column, field and list, and yield the length of each name (0 for items)."""
    if depth > MAX_DEPTH:
        raise RowRefused(f"a column is nested deeper than {MAX_DEPTH} levels")
    if isinstance(kind, ListOf):
        yield 0
        yield from _checked(kind.item, depth + 1)
    elif isinstance(kind, StructOf):
        names = [name for name, _ in kind.fields]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise RowRefused(f"there are two columns {quoted(twice)}")
        for name, inner in kind.fields:
            check_name(name)
            yield len(name)
            yield from _checked(inner, depth + 1)


def _plain(kind: Type) -> object:
    if isinstance(kind, ListOf):
        return {"list": _plain(kind.item)}
    if isinstance(kind, StructOf):
        return {"struct": [[name, _plain(inner)] for name, inner in kind.fields]}
    return kind


def _pairs(value: object) -> tuple[tuple[str, Type], ...]:
    if not isinstance(value, list):
        raise RowRefused("expected a list of names and types")
    pairs = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) is not str:
            raise RowRefused("expected a name and a type")
        pairs.append((pair[0], _type(pair[1])))
    return tuple(pairs)


def _type(value: object) -> Type:
    if isinstance(value, dict) and len(value) == 1:
        if "list" in value:
            return ListOf(_type(value["list"]))
        if "struct" in value:
            return StructOf(_pairs(value["struct"]))
    if type(value) is not str or value not in SCALARS:
        raise RowRefused(f"{quoted(str(value))} is not a column type")
    return cast(Scalar, value)
