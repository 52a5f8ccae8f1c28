"""The strict reader accepts plain YAML only; its canonical JSON means the same to both parsers."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.axolotl import strict_yaml
from enclave_runner.axolotl.strict_yaml import YamlError, canonical, load

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_means_the_same_as_json_and_as_yaml(value: object) -> None:
    data = canonical(value)
    assert json.loads(data) == value
    assert yaml.safe_load(data) == value
    assert load(data) == value
    assert canonical(load(data)) == data


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_one_kind_of_error(data: bytes) -> None:
    try:
        load(data)
    except YamlError:
        pass


@given(st.text(alphabet="&*a:-[]{}!<#|>'\"\n ,?%@`=~01.", max_size=60))
def test_any_yaml_like_text_gives_a_value_or_one_kind_of_error(text: str) -> None:
    try:
        load(text.encode())
    except YamlError:
        pass


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "line 2: the key 'a' appears here twice"),
        ("a: {b: 1, b: 2}", "twice"),
        ("1: a\n'1': b", "twice"),
        ("true: 1", "quote it"),
        ("1.5: 1", "quote it"),
        ("? [a]\n: b", "plain scalar"),
        ("a: 2026-01-01", "quote it"),
        ("a: !!binary aGk=", "quote it"),
        ("a: !!python/object/apply:os.system [x]", "quote it"),
        ("a: !!set {x}", "quote it"),
        ("a: .nan", "not finite"),
        ("a: .inf", "not finite"),
        ("a: 99999999999999999999", "64 bits"),
        ("a: " + "9" * 5000, "64 characters"),
        ("a: &x [*x]", "contains itself"),
        ("a: &x {b: *x}", "contains itself"),
        ("a: *x", "undefined alias"),
        ("a: 1\n---\nb: 2", "line"),
        ("a: \x07", "special characters"),
        ("\ufeffa: 1", "byte order mark"),
        ("a: " + "[" * 40 + "]" * 40, "deeper"),
        ("a: " + "[" * 2000, "deeper"),
        (f"{'k' * 200}: 1", "longer"),
        ("a: [" + "1," * 11_000 + "]", "more than"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, says: str) -> None:
    with pytest.raises(YamlError, match=says):
        load(text.encode())


def test_aliases_are_counted_as_if_written_out() -> None:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(YamlError, match="aliases expanded"):
        load("\n".join(rows).encode())


def test_an_alias_and_a_merge_are_taken() -> None:
    assert load(b"a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x\n") == {
        "a": {"p": 1, "q": 2},
        "b": {"p": 1, "q": 3},
        "c": {"p": 1, "q": 2},
    }


def test_size_and_encoding_are_checked_first() -> None:
    with pytest.raises(YamlError, match="larger"):
        load(b" " * (strict_yaml.MAX_BYTES + 1))
    with pytest.raises(YamlError, match="UTF-8"):
        load(b"a: \xff")


def test_an_empty_document_is_null() -> None:
    assert load(b"# nothing\n") is None
