"""The schema of rows that say none: what their values have in common.

Columns and fields stand in the order in which the rows bring them. Absent and null are one.
Integers and floats in one column are floats; any other two kinds are refused, as is a column that
somebody would have to guess.
"""

from collections.abc import Mapping
from typing import cast

from aicert.records.errors import RowRefused, quoted
from aicert.records.schema import (
    MAX_DEPTH,
    MAX_NODES,
    ListOf,
    Scalar,
    Schema,
    StructOf,
    Type,
    check_name,
)

_KINDS: Mapping[type, str] = {str: "string", int: "int", float: "float", bool: "bool"}
_NUMBERS = {"int", "float"}


class Columns:
    """What is known of the columns so far. `changes` counts what each look added."""

    def __init__(self) -> None:
        self.changes = 0
        self.nodes = 0
        self._root = _Node(self, "", 0)

    def absorb(self, row: Mapping[str, object]) -> None:
        """Widen the columns so that `row` fits."""
        self._root.absorb(row)

    def absorb_schema(self, schema: Schema) -> None:
        """Widen the columns so that rows of `schema` fit."""
        self._root.absorb_type(StructOf(schema.columns))

    def schema(self) -> Schema:
        """The columns as they are now; RowRefused where there are none."""
        root = self._root.type()
        return Schema(root.fields if isinstance(root, StructOf) else ())


class _Node:
    """A value's place: a column, a field, the items of a list."""

    __slots__ = ("_columns", "_depth", "_fields", "_item", "_kind", "_path")

    def __init__(self, columns: Columns, path: str, depth: int) -> None:
        columns.changes += 1
        columns.nodes += 1
        # The row itself is one.
        if columns.nodes > MAX_NODES + 1:
            raise RowRefused(f"there are more than {MAX_NODES} columns and fields")
        if depth > MAX_DEPTH + 1:
            raise RowRefused(f"column {quoted(path)} is nested deeper than {MAX_DEPTH} levels")
        self._columns = columns
        self._path = path
        self._depth = depth
        self._kind = "null"
        self._fields: dict[str, _Node] = {}
        self._item: _Node | None = None

    def absorb(self, value: object) -> None:
        if value is None:
            return
        if isinstance(value, Mapping):
            self._become("struct")
            fields = self._fields
            for name, inner in value.items():
                (fields.get(name) or self._field(name)).absorb(inner)
        elif isinstance(value, list):
            item = self._items()
            for inner in value:
                item.absorb(inner)
        else:
            kind = _KINDS[type(value)]
            if kind != self._kind:
                self._become(kind)

    def absorb_type(self, kind: Type) -> None:
        if isinstance(kind, StructOf):
            self._become("struct")
            for name, inner in kind.fields:
                (self._fields.get(name) or self._field(name)).absorb_type(inner)
        elif isinstance(kind, ListOf):
            self._items().absorb_type(kind.item)
        elif kind != "null":
            self._become(kind)

    def type(self) -> Type:
        if self._kind == "struct":
            return StructOf(tuple((name, node.type()) for name, node in self._fields.items()))
        if self._item is not None:
            return ListOf(self._item.type())
        return cast(Scalar, self._kind)

    def _become(self, kind: str) -> None:
        if kind == self._kind:
            return
        if {kind, self._kind} == _NUMBERS:
            if self._kind == "float":
                return
        elif self._kind != "null":
            raise RowRefused(
                f"column {quoted(self._path)} has both {_words(self._kind)} and {_words(kind)}"
            )
        self._columns.changes += 1
        self._kind = kind

    def _field(self, name: str) -> "_Node":
        check_name(name)
        path = f"{self._path}.{name}" if self._path else name
        node = self._fields[name] = _Node(self._columns, path, self._depth + 1)
        return node

    def _items(self) -> "_Node":
        self._become("list")
        if self._item is None:
            self._item = _Node(self._columns, f"{self._path}[]", self._depth + 1)
        return self._item


def _words(kind: str) -> str:
    return {"bool": "booleans", "struct": "objects"}.get(kind, f"{kind}s")
