import hashlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.records.errors import RowRefused
from aicert.records.grammar import Grammar
from aicert.records.reader import Checker, NotCanonical, check
from aicert.records.schema import ListOf, Schema, StructOf
from tests.fuzz.row_targets import is_canonical

TEXT = Schema((("text", "string"),))
ALL = Schema(
    (
        ("s", "string"),
        ("i", "int"),
        ("f", "float"),
        ("b", "bool"),
        ("n", "null"),
        ("l", ListOf(ListOf("int"))),
        ("t", StructOf((("a", "string"), ("e", StructOf(()))))),
    )
)
NONE = dict.fromkeys(name for name, _ in ALL.columns)


def line(row: object) -> bytes:
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def test_every_kind_of_value_is_read_and_counted() -> None:
    rows = [
        NONE,
        NONE | {"s": "", "i": 0, "f": 0.0, "b": True, "l": [], "t": {"a": None, "e": None}},
        NONE | {"s": "".join(map(chr, range(0x3000))), "i": -(2**63), "f": 1e22, "b": False},
        NONE | {"s": "\N{GRINNING FACE}\u2028\x7f", "i": 2**63 - 1, "f": -5e-324},
        NONE | {"l": [None, [], [1, None, 2]], "t": {"a": "}\n{", "e": {}}, "f": 1e-7},
        NONE | {"f": 1.7976931348623157e308, "i": -1},
    ]
    data = b"".join(map(line, rows))
    fact = check(io.BytesIO(data), ALL)
    assert (fact.rows, fact.bytes) == (len(rows), len(data))
    assert fact.digest.hex == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "bad",
    [
        b'{"text":"a","text":"b"}\n',
        b'{"text": "a"}\n',
        b'{"text":"a"} \n',
        b'{"text":"a"}\r\n',
        b'{"text":"a"}{"text":"b"}\n',
        b"\n",
        b"{}\n",
        b'{"text":1}\n',
        b'{"text":"a","more":"b"}\n',
        b'{"text":"\\u0061"}\n',
        b'{"text":"\\/"}\n',
        b'{"text":"\\u000A"}\n',
        b'{"text":"\\u000a"}\n',
        b'{"text":"\\u001F"}\n',
        b'{"text":"\\ud83d\\ude00"}\n',
        b'{"text":"\\ud800"}\n',
        b'{"text":"\xed\xa0\x80"}\n',
        b'{"text":"\xff"}\n',
        b'{"text":"\\"}\n',
        b'{"text":"\\\\\\"}\n',
        b'{"text":"\t"}\n',
        b'{"text":"\x00"}\n',
        b'{"text":"a\nb"}\n',
        b'{"text":"}\n{"}\n',
        b'{"text":"}\n{"text":""}\n',
        b'{"text":"a"}\n{"text":"\n{"}\n',
        b'{\\n"text":"a"}\n',
        b'{"te\\nxt":"a"}\n',
        b'\xef\xbb\xbf{"text":"a"}\n',
        b'[{"text":"a"}]\n',
        b'{"text":nul}\n',
    ],
)
@pytest.mark.parametrize("before", [0, 3])
def test_what_is_not_canonical_is_refused_with_its_row(bad: bytes, before: int) -> None:
    with pytest.raises(NotCanonical) as caught:
        check(io.BytesIO(line({"text": "a"}) * before + bad), TEXT)
    # One of these inputs begins with a canonical row.
    first = before + 1 + (bad.startswith(b'{"text":"a"}\n'))
    assert caught.value.row == first


@pytest.mark.parametrize(
    "number",
    ["9223372036854775808", "-9223372036854775809", "-0", "01", "1.0", "1e3", "+1", "1" * 99],
)
def test_integers_have_one_form(number: str) -> None:
    with pytest.raises(NotCanonical):
        check(io.BytesIO(f'{{"i":{number}}}\n'.encode()), Schema((("i", "int"),)))


@pytest.mark.parametrize("number", [10**18, 10**19 - 1 - 2**63, 2**63 - 9, 5 * 10**18, 7 - 2**63])
def test_integers_of_every_length_are_read(number: int) -> None:
    schema = Schema((("i", "int"),))
    assert check(io.BytesIO(line({"i": number})), schema).rows == 1


@pytest.mark.parametrize(
    "number", ["1", "1.10", "1e5", "1E+22", "1e999", "NaN", "0.1e1", "1.", ".5"]
)
def test_floats_have_one_form(number: str) -> None:
    with pytest.raises(NotCanonical, match="row 2"):
        check(io.BytesIO(f'{{"f":1.5}}\n{{"f":{number}}}\n'.encode()), Schema((("f", "float"),)))


def test_a_last_line_without_its_end_is_no_row() -> None:
    with pytest.raises(NotCanonical, match="row 2 has no line feed"):
        check(io.BytesIO(b'{"text":"a"}\n{"text":"b"}'), TEXT)


def test_blocks_may_end_anywhere() -> None:
    data = b"".join(line({"text": "é" * size}) for size in range(40))
    whole = check(io.BytesIO(data), TEXT)
    for size in (1, 7, 100):
        checker = Checker(TEXT)
        for start in range(0, len(data), size):
            checker.feed(data[start : start + size])
        assert checker.fact() == whole


def test_a_schema_has_one_form() -> None:
    assert Schema.parse(ALL.emit()) == ALL
    for wrong in (
        ALL.emit() + b"\n",
        b'{"version":1,"columns":[["a","int"]]}',
        b'{"columns":[["a","date"]],"version":1}',
        b'{"columns":[["a"]],"version":1}',
        b'{"columns":[["a",{"set":"int"}]],"version":1}',
        b'{"columns":[["a",{"list":"int","struct":[]}]],"version":1}',
        b'{"columns":[["a","int"],["a","int"]],"version":1}',
        b'{"columns":[["a",' + b'{"list":' * 10 + b'"int"' + b"}" * 10 + b']],"version":1}',
        b'{"columns":[],"version":1}',
        b'{"columns":{},"version":1}',
        b"[]",
    ):
        with pytest.raises(EvidenceError):
            Schema.parse(wrong)


@pytest.mark.parametrize("name", ["", 'a"', "a\\", "a\n", "\u200b", ":", "}", ",", "]", "a" * 257])
def test_names_that_could_be_written_in_two_ways_are_refused(name: str) -> None:
    with pytest.raises(RowRefused, match="name of column"):
        Schema(((name, "int"),))


def test_names_are_few_and_short_together() -> None:
    for count, length in ((4097, 4), (2000, 99)):
        columns = tuple((f"{number:0{length}}", ListOf("int")) for number in range(count))
        with pytest.raises(RowRefused, match="more than 4096 columns and fields"):
            Schema(columns)


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("grammar", "reader"):
        monkeypatch.setattr(f"aicert.records.{module}.MAX_LINE", 50)
        monkeypatch.setattr(f"aicert.records.{module}.MAX_PARTS", 40)
    good, long = line({"text": ""}), line({"text": "a" * 50})
    for size in (1, 7, 1000):
        checker = Checker(TEXT)
        data = good * 9 + long
        with pytest.raises(NotCanonical, match="row 10 is longer than 50 bytes"):
            for start in range(0, len(data), size):
                checker.feed(data[start : start + size])
    Checker(TEXT).feed(good * 9)
    with pytest.raises(NotCanonical, match="row 2 is longer than 40 commas and brackets"):
        Checker(TEXT).feed(good + b"[" * 41 + b"\n")
    monkeypatch.setattr("aicert.records.reader.MAX_ROWS", 3)
    assert check(io.BytesIO(good * 3), TEXT).rows == 3
    with pytest.raises(NotCanonical, match="one of more than 3"):
        check(io.BytesIO(good * 4), TEXT)


TEXTS = st.none() | st.text()
ROWS_OF_ALL: st.SearchStrategy[list[dict[str, object]]] = st.lists(
    st.tuples(
        TEXTS,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.booleans(),
        st.none(),
        st.none() | st.lists(st.none() | st.lists(st.none() | st.integers(-9, 9))),
        st.none()
        | st.tuples(TEXTS, st.sampled_from([None, {}])).map(
            lambda both: {"a": both[0], "e": both[1]}
        ),
    ).map(lambda values: dict(zip(NONE, values, strict=True))),
    min_size=1,
    max_size=5,
)


@given(ROWS_OF_ALL)
def test_whatever_json_writes_of_such_rows_is_canonical(rows: list[dict[str, object]]) -> None:
    data = b"".join(map(line, rows))
    assert check(io.BytesIO(data), ALL).rows == len(rows)


@given(ROWS_OF_ALL, st.data())
def test_json_agrees_wherever_one_byte_is_another(
    rows: list[dict[str, object]], data: st.DataObject
) -> None:
    changed = bytearray(b"".join(map(line, rows)))
    at = data.draw(st.integers(0, len(changed) - 2))
    changed[at] = data.draw(st.integers(0, 255))
    lines = bytes(changed).split(b"\n")[:-1]
    good = 0
    while good < len(lines) and is_canonical(lines[good], ALL):
        good += 1
    matched = Grammar(ALL).prefix(bytes(changed))
    assert matched == (good, sum(len(each) + 1 for each in lines[:good]))
