"""The schema of rows where some files carry one and others do not."""

import pytest

from aicert.records.errors import RowRefused
from aicert.records.infer import Columns
from aicert.records.schema import ListOf, Scalar, Schema, StructOf, Type

SCALARS: tuple[Scalar, ...] = ("string", "int", "float", "bool")


def of(**kinds: Type) -> Schema:
    return Schema(tuple(kinds.items()))


@pytest.mark.parametrize(
    "kind",
    [
        *SCALARS,
        ListOf("string"),
        ListOf(ListOf("int")),
        StructOf((("role", "string"), ("content", "string"))),
        ListOf(StructOf((("score", "float"), ("tags", ListOf("bool"))))),
        "null",
    ],
)
def test_the_columns_of_a_schema_are_those_of_its_rows(kind: Type) -> None:
    columns = Columns()
    columns.absorb_schema(of(value=kind))
    assert columns.schema() == of(value=kind)
    seen = columns.changes
    columns.absorb_schema(of(value=kind))
    assert columns.changes == seen


def test_schemas_and_rows_are_widened_by_one_another() -> None:
    columns = Columns()
    columns.absorb_schema(of(a="null", b="int", c=ListOf("null")))
    columns.absorb({"a": "text", "b": 1.5, "c": [{"d": None}], "e": True})
    columns.absorb_schema(of(c=ListOf(StructOf((("d", "int"), ("f", "string"))))))
    item = StructOf((("d", "int"), ("f", "string")))
    assert columns.schema() == of(a="string", b="float", c=ListOf(item), e="bool")


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("string", 1, "strings and ints"),
        (ListOf("int"), "x", "lists and strings"),
        (StructOf((("a", "int"),)), True, "objects and booleans"),
    ],
)
def test_a_schema_and_a_row_that_contradict_each_other(
    kind: Type, value: object, words: str
) -> None:
    columns = Columns()
    columns.absorb_schema(of(column=kind))
    with pytest.raises(RowRefused) as caught:
        columns.absorb({"column": value})
    assert f"has both {words}" in str(caught.value)
