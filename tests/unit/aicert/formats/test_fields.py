"""The one reader of typed fields, as JSON and TOML readers use it."""

from collections.abc import Callable
from functools import partial

import pytest

from aicert.errors import ConfigError, EvidenceError, LockError
from aicert.formats.fields import Reader, Table


class Policy(Table):
    error = ConfigError
    between = ": "


def refusal(read: Callable[[], object]) -> tuple[type, str]:
    with pytest.raises((EvidenceError, LockError, ConfigError)) as caught:
        read()
    return caught.type, caught.value.message


def test_each_value_is_of_exactly_one_type_and_taken_once() -> None:
    reader = Reader({"a": 1, "b": True, "c": None}, "top")
    assert reader.take("a", int) == 1
    assert refusal(lambda: reader.take("a", int)) == (EvidenceError, "top.a is missing")
    assert reader.take("a", int, 7) == 7
    message = "top.b: expected an integer, found True"
    assert refusal(lambda: reader.take("b", int)) == (EvidenceError, message)
    # Null is a value, and no default replaces it.
    message = "top.c: expected a string, found None"
    assert refusal(lambda: reader.take("c", str, "x")) == (EvidenceError, message)


def test_no_key_is_left_over() -> None:
    reader = Reader({"a": 1, "k" * 90: 2}, "top")
    assert reader.has("a")
    assert reader.take("a", int) == 1
    assert not reader.has("a")
    message = f"top has an unknown key '{'k' * 80}'"
    assert refusal(reader.done) == (EvidenceError, message)
    assert reader.rest() == {"k" * 90: 2}
    reader.done()


WRONG: tuple[tuple[object, Callable[[Table], object], str], ...] = (
    (1, lambda table: table.text("k"), "expected a string"),
    ("x", lambda table: table.take("k", int), "expected an integer"),
    (1, lambda table: table.take("k", bool), "expected true"),
    ([], lambda table: table.take("k", dict), "expected a table"),
    ("x", lambda table: table.texts("k", 9), "expected a list of strings"),
    (["x", 1], lambda table: table.texts("k", 9), "expected a list of strings"),
    (["x", "y"], lambda table: table.texts("k", 1), "expected a list of strings"),
    ({}, lambda table: table.tables("k", 9, "tables"), "tables"),
    ([{}, {}], lambda table: table.tables("k", 1, "tables"), "tables"),
)


@pytest.mark.parametrize(
    ("kind", "error", "start"), [(Table, LockError, "t.k"), (Policy, ConfigError, "t: k")]
)
def test_a_table_says_what_is_wanted(kind: type[Table], error: type, start: str) -> None:
    for value, read, wanted in WRONG:
        table = kind({"k": value}, "t")
        assert refusal(partial(read, table)) == (error, f"{start}: {wanted}")
    assert refusal(lambda: kind([], "t")) == (error, "t: expected a table")


def test_lists_up_to_their_limit() -> None:
    table = Table({"a": ["x", "y"], "b": [{}, {}]}, "t")
    assert table.texts("a", 2) == ("x", "y")
    assert table.tables("b", 2, "tables") == [{}, {}]
    assert table.tables("b", 2, "tables") == []
    table.done()


def test_digits_are_lowercase_and_exactly_as_many() -> None:
    good = "0123456789abcdef"
    assert Reader({"a": good * 4}, "top").hex("a") == good * 4
    assert Reader({"a": good}, "top").hex("a", 16) == good
    for text in ("", good[1:], good + "0", good.upper(), "g" * 16, "\u0660" * 16, f" {good[1:]}"):
        refused = refusal(partial(Reader({"a": text}, "top").hex, "a", 16))
        assert refused == (EvidenceError, "top.a is not 16 hexadecimal digits")
    refused = refusal(lambda: Reader({"a": 7}, "top").hex("a"))
    assert refused == (EvidenceError, "top.a: expected a string, found 7")
    refused = refusal(lambda: Policy({"a": ""}, "top").hex("a"))
    assert refused == (ConfigError, "top: a is not 64 hexadecimal digits")
