import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.strict_json import Fields, dumps, loads, string

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def read(data: bytes) -> object:
    return loads(data, what="document", max_bytes=1000)


@given(VALUE)
def test_what_we_write_we_read(value: object) -> None:
    data = dumps(value)
    if b"\\ud" not in data.lower():
        assert loads(data, what="document", max_bytes=1 << 20) == value
        assert dumps(json.loads(data)) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"1 1", "not JSON: Extra data at byte 2"),
        (b"'a'", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"/**/1", "not JSON"),
        (b'"a\nb"', "not JSON"),
        (b'"', "not JSON: Unterminated string starting at byte 0$"),
        (b'"\\', "not JSON"),
        (b"]" * 40 + b"[" * 40, "not JSON|nested"),
        (b'{"a":1,"a":1}', "key 'a' is given twice"),
        (b'{"b":0,"a":1,"\\u0061":2}', "key 'a' is given twice"),
        (b'[{"a":{"b":1,"b":1}}]', "key 'b' is given twice"),
        (b"NaN", "NaN is not a number"),
        (b"[Infinity]", "Infinity is not a number"),
        (b"-Infinity", "-Infinity is not a number"),
        (b"9223372036854775808", "number out of range"),
        (b"-9223372036854775808", "number out of range"),
        (b"1" * 900, "number out of range"),
        (b"-0", "^document: number out of range: -0$"),
        (b"1e999", "^document: number out of range: 1e999$"),
        (b"-1e999", "number out of range"),
        (b"0." + b"1" * 40, "^document: number out of range: 0." + "1" * 38 + "$"),
        (b"0." + b"1" * 31, "number out of range"),
        (b'{"' + b"k" * 81 + b'":1,"' + b"k" * 81 + b'":1}', f"key '{'k' * 80}' is given twice"),
        (b'"\\ud800"', "surrogate"),
        (b'"\\uDFFF"', "surrogate"),
        (b'"\\ud83d\\ude00"', "surrogate"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xc0\xaf"', "not UTF-8"),
        (b"\xef\xbb\xbf1", "byte order mark"),
        ("1".encode("utf-16"), "not UTF-8"),
        (b"[" * 33 + b"]" * 33, "deeper than 32"),
        (b"[[" + b"[]," + b"[" * 31 + b"]" * 33, "deeper than 32"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "deeper than 32"),
        (b" " * 1001, "larger than 1000 bytes"),
        (b" " * 999 + b"x", "not JSON"),
        (b"1" * 25, f"^document: number out of range: {'1' * 24}$"),
    ],
)
def test_what_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        read(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775807", -(2**63) + 1),
        (b"0", 0),
        (b"1.5e3", 1500.0),
        (b"0." + b"1" * 30, float("0." + "1" * 30)),
        (b'"[[[["', "[[[["),
        (b'["\\"[", "{"]', ['"[', "{"]),
        (b'"\\u00e9"', "é"),
        ('"\N{GRINNING FACE}"'.encode(), "\N{GRINNING FACE}"),
        (b"[" * 32 + b"]" * 32, None),
        (b"[" + b",".join([b"[[]]"] * 100) + b"]", None),
    ],
)
def test_what_is_read(data: bytes, value: object) -> None:
    parsed = read(data)
    assert value is None or parsed == value


def test_what_somebody_else_signed_may_be_deep_but_not_for_python() -> None:
    def trusted(data: bytes) -> object:
        return loads(data, what="document", max_bytes=1 << 20, signed=True)

    assert trusted(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
    for alone in (b'"\\ud83d"', b'"\\ud83d\\ud83d\\ude00\\ude00"'):
        with pytest.raises(EvidenceError, match="surrogate"):
            trusted(alone)
    assert trusted(b"[" * 40 + b"]" * 40)
    with pytest.raises(EvidenceError, match="nested too deeply"):
        trusted(b"[" * 100_000)


def test_bounds_on_tokens_and_wide_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "MAX_TOKENS", 4)
    assert read(b"[1,2,3]") == [1, 2, 3]
    for data in (b"[1,2,3,4]", b'["a","b"]', b"[[{}]]"):
        with pytest.raises(EvidenceError, match="more than 4 strings"):
            read(data + b" ")
    monkeypatch.setattr(strict_json, "MAX_NON_ASCII", 5)
    assert read('"é"'.encode()) == "é"
    assert read('"éa"'.encode()) == "éa"
    assert read(b'"1234567"') == "1234567"
    for data in ('"éé"'.encode(), b'"\\u0041"'):
        with pytest.raises(EvidenceError, match="larger than 5 bytes and not ASCII, or escapes"):
            read(data)


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], "\ud800", {"\udfff": 1}])
def test_what_cannot_be_written(value: object) -> None:
    with pytest.raises(EvidenceError, match="cannot be written"):
        dumps(value)


def test_written_form() -> None:
    assert dumps({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()


def fields(**values: object) -> Fields:
    return Fields(values, "top")


@pytest.mark.parametrize("value", [[], "a", 1, None, True])
def test_an_object_is_wanted(value: object) -> None:
    with pytest.raises(EvidenceError, match="top: expected an object, found"):
        Fields(value, "top")


def test_each_getter_reads_its_kind() -> None:
    every = fields(t="x", i=3, z=0, m=2**63 - 1, o={"k": "v"}, l=["a", "b"], c=1)
    assert every.has("t")
    assert every.text("t") == "x"
    assert not every.has("t")
    assert every.optional_text("t") is None
    assert every.integer("i", low=3, high=3) == 3
    assert every.integer("z") == 0
    assert every.integer("m") == 2**63 - 1
    assert every.fields("o").optional_text("k") == "v"
    assert every.items("l", string, max_items=2) == ("a", "b")
    assert string("x" * 4096, "it") == "x" * 4096
    every.const("c", 1)
    every.done()


def test_a_number_is_an_integer_or_not_and_never_below_0() -> None:
    some = fields(zero=0, small=0.5, below=-0.5, true=True)
    assert (some.number("zero"), some.number("small")) == (0, 0.5)
    for key in ("below", "true"):
        with pytest.raises(EvidenceError, match=rf"^top\.{key}: expected a number from 0, found"):
            some.number(key)


def test_rest_gives_what_is_left_once() -> None:
    some = fields(a=1, b=2)
    some.integer("a")
    assert some.rest() == {"b": 2}
    some.done()


def test_the_value_given_is_not_changed() -> None:
    given_value: dict[str, object] = {"a": 1}
    Fields(given_value, "top").integer("a")
    assert given_value == {"a": 1}


def test_wrong_fields_are_named() -> None:
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: fields().text("a"), r"top\.a is missing"),
        (lambda: fields(a=1).text("a"), r"top\.a: expected a string, found 1"),
        (lambda: fields(a="xy").text("a", max_length=1), r"top\.a is longer than 1"),
        (lambda: fields(a=True).integer("a"), r"top\.a: expected an integer, found True"),
        (lambda: fields(a=1.0).integer("a"), r"top\.a: expected an integer, found 1.0"),
        (lambda: fields(a=-1).integer("a"), r"top\.a is out of range: -1"),
        (lambda: fields(a=2**63).integer("a"), r"top\.a is out of range: 9223372036854775808"),
        (lambda: fields(a=3).integer("a", high=2), r"top\.a is out of range: 3"),
        (lambda: fields(a=[]).fields("a"), r"top\.a: expected an object, found a list"),
        (lambda: fields(a={}).items("a", string, max_items=1), r"found an object"),
        (
            lambda: fields(a=["x", 1]).items("a", string, max_items=2),
            r"a\[1\]: expected a short",
        ),
        (lambda: fields(a=["x", "y"]).items("a", string, max_items=1), r"more than 1 items"),
        (lambda: fields(a=["x" * 4097]).items("a", string, max_items=1), r"a short string"),
        (lambda: fields(a=True).const("a", 1), r"top\.a is not 1"),
        (lambda: fields().const("a", "x"), r"top\.a is not 'x'"),
        (lambda: fields(**{"k" * 81: 1}).done(), f"^top has an unknown key '{'k' * 80}'$"),
        (lambda: fields(**{"\x1b": 1}).done(), r"top has an unknown key '\\x1b'"),
    ]
    for call, message in wrong:
        with pytest.raises(EvidenceError, match=message):
            call()


def test_an_optional_text_has_a_length_too() -> None:
    assert Fields({"a": "xx"}, "w").optional_text("a", max_length=2) == "xx"
    assert Fields({}, "w").optional_text("a") is None
    assert Fields({"a": "x" * 4096}, "w").optional_text("a") == "x" * 4096
    with pytest.raises(EvidenceError, match=r"^w\.a is longer than 2 characters$"):
        Fields({"a": "xxx"}, "w").optional_text("a", max_length=2)
    for limits in ({}, {"max_length": 2}):
        with pytest.raises(EvidenceError, match=r"^w\.a is longer than"):
            Fields({"a": "x" * 4097}, "w").optional_text("a", **limits)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({}, "an object"),
        ([], "a list"),
        ("x", "a string"),
        (None, "None"),
        (10**60, "1" + "0" * 39),
    ],
)
def test_an_error_shows_what_was_found(value: object, shown: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        fields(a=value).integer("a") if type(value) is not int else string(value, "top.a")
    wanted = "a short string" if type(value) is int else "an integer"
    assert caught.value.message == f"top.a: expected {wanted}, found {shown}"
