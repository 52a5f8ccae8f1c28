"""Infer the schema of rows that come without one from what their values have in common.

Columns and fields are in the order in which rows first have them. Absent values count as null.
Integers and floats in one column are floats; any other mix is refused, as is a column whose type
would have to be guessed.
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
    """The columns as they are known so far, widened row by row.

    `changes` counts how often they changed; `nodes` counts columns, fields and item types.
    """

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

    def absorb_text(self, kinds: Mapping[str, Scalar]) -> None:
        """Widen the columns by those of a file without types, whose values fit these types.

        If two such files differ about a column, it is a column of text, and its values keep the
        text that the files have.
        """
        self._root.absorb_text(kinds)

    def schema(self) -> Schema:
        """Return the columns as known now; RowRefused if there are none."""
        root = self._root.type()
        return Schema(root.fields if isinstance(root, StructOf) else ())


class _Node:
    """A place where values occur: a column, a field, or the items of a list."""

    __slots__ = ("columns", "depth", "fields", "item", "kind", "only_text", "path")

    def __init__(self, columns: Columns, path: str, depth: int) -> None:
        columns.changes += 1
        columns.nodes += 1
        # The row itself is a node, too.
        if columns.nodes > MAX_NODES + 1:
            raise RowRefused(f"there are more than {MAX_NODES} columns and fields")
        if depth > MAX_DEPTH + 1:
            raise RowRefused(f"column {quoted(path)} is nested deeper than {MAX_DEPTH} levels")
        self.columns = columns
        self.path = path
        self.depth = depth
        self.kind = "null"
        self.fields: dict[str, _Node] = {}
        self.item: _Node | None = None
        self.only_text = False

    def absorb(self, value: object) -> None:
        if value is None:
            return
        self.only_text = False
        if isinstance(value, Mapping):
            self.become("struct")
            fields = self.fields
            for name, inner in value.items():
                (fields.get(name) or self._field(name)).absorb(inner)
        elif isinstance(value, list):
            item = self._items()
            for inner in value:
                item.absorb(inner)
        else:
            kind = _KINDS[type(value)]
            if kind != self.kind:
                self.become(kind)

    def absorb_type(self, kind: Type) -> None:
        self.only_text = False
        if isinstance(kind, StructOf):
            self.become("struct")
            for name, inner in kind.fields:
                (self.fields.get(name) or self._field(name)).absorb_type(inner)
        elif isinstance(kind, ListOf):
            self._items().absorb_type(kind.item)
        elif kind != "null":
            self.become(kind)

    def absorb_text(self, kinds: Mapping[str, Scalar]) -> None:
        self.become("struct")
        for name, kind in kinds.items():
            node = self.fields.get(name)
            if node is None:
                node = self._field(name)
                node.only_text = True
            differ = kind != node.kind and "null" not in (kind, node.kind)
            if node.only_text and differ and {kind, node.kind} != _NUMBERS:
                node.kind = "string"
            elif kind != "null":
                node.become(kind)

    def type(self) -> Type:
        if self.kind == "struct":
            return StructOf(tuple((name, node.type()) for name, node in self.fields.items()))
        if self.item is not None:
            return ListOf(self.item.type())
        return cast(Scalar, self.kind)

    def become(self, kind: str) -> None:
        if kind == self.kind:
            return
        if {kind, self.kind} == _NUMBERS:
            if self.kind == "float":
                return
        elif self.kind != "null":
            raise RowRefused(
                f"column {quoted(self.path)} has both {_words(self.kind)} and {_words(kind)}"
            )
        self.columns.changes += 1
        self.kind = kind

    def _field(self, name: str) -> "_Node":
        check_name(name)
        path = f"{self.path}.{name}" if self.path else name
        node = self.fields[name] = _Node(self.columns, path, self.depth + 1)
        return node

    def _items(self) -> "_Node":
        self.become("list")
        if self.item is None:
            self.item = _Node(self.columns, f"{self.path}[]", self.depth + 1)
        return self.item


def _words(kind: str) -> str:
    return {"bool": "booleans", "struct": "objects"}.get(kind, f"{kind}s")
