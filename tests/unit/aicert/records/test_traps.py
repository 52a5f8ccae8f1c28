"""Inputs on which row readers are known to disagree, and their meaning here."""

from pathlib import Path

import pytest

from aicert.records.canonical import line_writer
from aicert.records.errors import RowRefused, RowsRefused
from aicert.records.schema import ListOf, Schema
from tests.unit.aicert.records.rows import rows_of

A, B = {"text": "a"}, {"text": "b"}
READ: dict[str, tuple[bytes, list[object]]] = {
    "text like dates stays text": (
        b'{"text":"2020-01-01T00:00:00Z"}\n{"text":"2021-05-05"}\n',
        [{"text": "2020-01-01T00:00:00Z"}, {"text": "2021-05-05"}],
    ),
    "integers and floats are floats": (b'{"v":1}\n{"v":1.5}\n', [{"v": 1.0}, {"v": 1.5}]),
    "floats and integers are floats": (b'{"v":1.5}\n{"v":-3}\n', [{"v": 1.5}, {"v": -3.0}]),
    "integers have 64 bits": (
        b'{"v":9007199254740993}\n{"v":-9223372036854775808}\n',
        [{"v": 9007199254740993}, {"v": -(2**63)}],
    ),
    "absent and null are one": (
        b'{"text":"a","src":null}\n{"text":"b"}\n{"text":"c","src":"x"}\n',
        [{"text": "a", "src": None}, {"text": "b", "src": None}, {"text": "c", "src": "x"}],
    ),
    "a column may come late": (
        b'{"text":"a"}\n' * 2 + b'{"text":"b","hidden":"secret"}\n',
        [A | {"hidden": None}, A | {"hidden": None}, B | {"hidden": "secret"}],
    ),
    "a key may be escaped": (b'{"te\\u0078t":"\\u0061"}\n{"text":"b"}\n', [A, B]),
    "a mark at the start is dropped": (b'\xef\xbb\xbf{"text":"a"}\n', [A]),
    "CRLF": (b'{"text":"a"}\r\n{"text":"b"}\r\n', [A, B]),
    "blank lines": (b'\n{"text":"a"}\n\n \t\r\n{"text":"b"}\n\n', [A, B]),
    "no line feed at the end": (b'{"text":"a"}\n{"text":"b"}', [A, B]),
    "spaces": (b' { "text" :\t"a" } \n{"text": "b"}\n', [A, B]),
    "U+2028 ends no line": ('{"text":"a\u2028b"}\n'.encode(), [{"text": "a\u2028b"}]),
    "a character that is NUL": (b'{"text":"a\\u0000b"}\n', [{"text": "a\0b"}]),
    "a pair of surrogates": (b'{"text":"\\ud83d\\ude00"}\n', [{"text": "\N{GRINNING FACE}"}]),
    "escapes": (
        b'{"text":"a"}\n{"text":"\\/\\u002f\\u0022\\u005C\\\\u0061\\u000a\\u0001\\u00E9"}\n',
        [A, {"text": '//"\\\\u0061\n\x01é'}],
    ),
    "escapes in a name, and spaces": (b'{"text":"a"}\n{"t\\u0065xt" : "\\u0062"}\n', [A, B]),
    "order in objects is the first's": (
        b'{"m":{"b":1,"a":2}}\n{"m":{"a":1,"b":2}}\n{"m":{"c":null}}\n',
        [
            {"m": {"b": 1, "a": 2, "c": None}},
            {"m": {"b": 2, "a": 1, "c": None}},
            {"m": {"b": None, "a": None, "c": None}},
        ],
    ),
    "an array": (b'[{"text":"a"},{"text":"b"}]', [A, B]),
    "an array over lines": (b'\xef\xbb\xbf \n[\n {"text":\n"a"}\n,{"text":"b"} ]\n\n', [A, B]),
    "a float is the nearest": (b'{"v":0.10000000000000000001}\n', [{"v": 0.1}]),
    "a small float": (b'{"v":1E-400}\n{"v":-0.0}\n', [{"v": 0.0}, {"v": -0.0}]),
    "empty lists and objects": (
        b'{"l":[],"o":{},"n":null}\n',
        [{"l": [], "o": {}, "n": None}],
    ),
    "lists of lists": (
        b'{"l":[[1],[],null]}\n{"l":[[2.5]]}\n',
        [{"l": [[1.0], [], None]}, {"l": [[2.5]]}],
    ),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "a key twice": (b'{"text":"shown","text":"hidden"}\n', "row 1: key 'text' is given twice"),
    "a key twice, inside": (b'{"m":[{"a":1,"a":1}]}\n', "row 1: key 'a' is given twice"),
    "one key, escaped": (b'{"text":"a","te\\u0078t":"b"}\n', "key 'text' is given twice"),
    "more than 64 bits": (
        b'{"v":1}\n{"v":9223372036854775808}\n',
        "row 2: .* does not fit 64 bits",
    ),
    "many digits": (b'{"v":' + b"1" * 5000 + b"}\n", "row 1: .* does not fit 64 bits"),
    "minus nothing": (b'{"v":-0}\n', "row 1: -0 is not an integer"),
    "an integer that no float holds": (
        b'{"v":9007199254740993}\n{"v":0.5}\n',
        "row 1: column 'v' has floats, and 9007199254740993",
    ),
    "NaN": (b'{"v":NaN}\n', "row 1: NaN is not a number"),
    "infinity": (b'{"v":-Infinity}\n', "row 1: -Infinity is not a number"),
    "too large": (b'{"v":1e999}\n', "row 1: 1e999 does not fit a 64-bit float"),
    "an escape outside": (b'{"v":1}\n' * 9 + b'{\\u0022v":1}\n', "row 10: not JSON"),
    "an escaped bracket": (b'{"v":1}\n' * 9 + b'\\u007b"v":1}\n', "row 10: not JSON"),
    "an escape of nothing": (b'{"v":"\\x"}\n', "row 1: not JSON: Invalid"),
    "half a pair, between": (
        b'{"text":"a"}\n' * 9 + b'{"text":"\\ud800\\u0061"}\n',
        "row 10: a string has half",
    ),
    "half a pair": (b'{"text":"\\ud800"}\n', "row 1: a string has half a surrogate pair"),
    "two values on a line": (b'{"text":"a"} {"text":"b"}\n', "row 1: there is something after"),
    "a value over lines": (b'{"text":\n"a"}\n', "row 1: not JSON"),
    "something behind": (b'{"text":"a"}\ngarbage\n', "row 2: not JSON"),
    "a raw control character": (b'{"text":"a\x0cb"}\n', "row 1: not JSON: Invalid control"),
    "a raw tab": (b'{"text":"a\tb"}\n', "row 1: not JSON: Invalid control"),
    "kinds in a list": (b'{"v":[1,"a"]}\n', "row 1: column 'v\\[\\]' has both ints and strings"),
    "kinds in a column": (b'{"v":"1"}\n{"v":1}\n', "row 2: column 'v' has both strings and ints"),
    "a boolean is no number": (b'{"v":true}\n{"v":1}\n', "row 2: column 'v' has both booleans"),
    "an object is no text": (b'{"v":{}}\n{"v":""}\n', "row 2: column 'v' has both objects"),
    "a list of texts": (b'["a","b"]', "row 1: expected an object"),
    "text": (b'"a"\n', "row 1: expected an object"),
    "not UTF-8": (b'{"text":"a"}\n{"text":"\xff"}\n', "row 2: not UTF-8"),
    "another encoding": ('{"text":"a"}\n'.encode("utf-16"), "row 1: not UTF-8"),
    "a mark inside": (b'{"text":"a"}\n\xef\xbb\xbf{"text":"b"}\n', "row 2: not JSON"),
    "two marks": (b'\xef\xbb\xbf\xef\xbb\xbf{"text":"a"}\n', "row 1: not JSON"),
    "a carriage return ends no line": (
        b'{"text":"a"}\r{"text":"b"}\n',
        "row 1: there is something",
    ),
    "a space in a number": (b'{"v":1}\n' * 9 + b'{"v": 1 2}\n', "row 10: not JSON"),
    "an array and more": (b'[{"text":"a"}] {}', "there is something after the end of the array"),
    "an array that does not end": (b'[{"text":"a"},', "row 2: not JSON"),
    "an array without commas": (b'[{"text":"a"} {"text":"a"}]', "']' is missing"),
    "an array of UTF-16": (b'[{"text":"a"},{"text":"\xff"}]', "row 1: not UTF-8"),
    "half a character": (b'[{"text":"a"}]\xc3', "not UTF-8"),
    "nesting": (b'{"v":' + b"[" * 100000 + b"]" * 100000 + b"}\n", "row 1: nested too deeply"),
    "some nesting": (b'{"v":' + b"[" * 12 + b"]" * 12 + b"}\n", "nested deeper than 9 levels"),
    "no row": (b"\n \n", "there are no rows"),
    "an array without anything": (b" [ ] ", "there are no rows"),
    "no bytes": (b"", "there are no rows"),
    "no column": (b"{}\n{}\n", "there are no columns"),
    "an odd name": (b'{"a\\"b":1}\n', "row 1: the name of column"),
    "many columns": (
        b"{" + b",".join(b'"%d":1' % number for number in range(4097)) + b"}\n",
        "row 1: there are more than 4096 columns",
    ),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("rows_before", [0, 40])
def test_it_has_one_meaning(name: str, rows_before: int, tmp_path: Path) -> None:
    data, rows = READ[name]
    if rows_before:
        # After the point from which lines are matched and not parsed; arrays have no lines.
        last = data.rstrip(b"\n").split(b"\n")[-1].rstrip(b"\r")
        data += b"" if data.endswith(b"\n") else b"\n"
        if not last.startswith(b"{") or not last.endswith(b"}") or b"[\n" in data:
            return
        data, rows = data + (last + b"\n") * rows_before, rows + rows[-1:] * rows_before
    assert repr(rows_of(tmp_path, "a.jsonl", data)) == repr(rows)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_row(name: str, tmp_path: Path) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(RowsRefused, match=f"^'a.jsonl'.*{reason}"):
        rows_of(tmp_path, "a.jsonl", data)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_late_too(name: str, tmp_path: Path) -> None:
    data, _ = REFUSED[name]
    if not data.strip() or data.lstrip(b"\xef\xbb\xbf \xff\xfe").startswith((b"[", b"{}")):
        return
    good = b'{"text":"a","v":0,"m":null}\n' * 100
    if b'"v":"1"' in data or b'"v":true' in data or b'"v":{}' in data or b"[" in data:
        good = b'{"text":"a","m":null}\n' * 100
    with pytest.raises(RowsRefused, match=r"^'a.jsonl', row (1[01][0-9]|1): "):
        rows_of(tmp_path, "a.jsonl", good + data)


def test_a_value_that_no_float_is_has_no_canonical_form() -> None:
    # Parquet can hold such values; JSON with them was refused when it was read.
    write = line_writer(Schema((("f", "float"), ("l", ListOf("string")))))
    with pytest.raises(RowRefused, match="NaN and infinity are not numbers"):
        write({"f": float("inf")})
    assert write({"l": ["a"]}) == b'{"f":null,"l":["a"]}\n'
