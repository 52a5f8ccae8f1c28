import io
import json
from pathlib import Path

import pytest

from aicert.records import convert, outcome
from aicert.records.errors import RowsRefused
from aicert.records.reader import RowsFact, check
from tests.unit.aicert.records.rows import rows_of

# Lines of more than one block: later lines are matched by a pattern, and no parser sees them.
MANY = 9000


def converted(folder: Path, *files: str, scratch: int = 1 << 20) -> tuple[outcome.Outcome, bytes]:
    """Convert `files` of `folder` as the program does; return the rows for the trainer."""
    out = folder / "out"
    out.mkdir()
    convert.convert(convert.Request(root=str(folder), files=files, scratch=scratch), out)
    read = outcome.read(out, files)
    if read.in_place:
        assert not (out / convert.ROWS).exists()
        return read, b"".join((folder / name).read_bytes() for name in files)
    fact = checked(out / convert.ROWS, read)
    assert fact.rows == read.rows
    return read, (out / convert.ROWS).read_bytes()


def checked(path: Path, read: outcome.Outcome) -> RowsFact:
    with path.open("rb") as stream:
        return check(stream, read.schema)


def test_rows_are_brought_into_form_and_keep_their_order(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "n": 1},
        {"n": None, "text": "\u00e9\n"},
        {"text": "c", "more": {"x": [1, 2.5]}},
        {"more": {"y": "z", "x": []}, "text": None},
    ]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "a.jsonl").write_text("\n\n".join(lines[:2]) + "\r\n \n")
    (tmp_path / "b.json").write_text("\ufeff[" + ",\n ".join(lines[2:]) + " ] \n")
    read, data = converted(tmp_path, "a.jsonl", "b.json")
    assert data.decode().splitlines() == [
        '{"text":"a","n":1,"more":null}',
        '{"text":"é\\n","n":null,"more":null}',
        '{"text":"c","n":null,"more":{"x":[1.0,2.5],"y":null}}',
        '{"text":null,"n":null,"more":{"x":[],"y":"z"}}',
    ]
    assert [file.rows for file in read.files] == [2, 2]
    assert not read.in_place


def test_canonical_files_are_used_in_place(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a":1,"b":"x"}\n' * 100)
    (tmp_path / "b.jsonl").write_bytes(b'{"a":null,"b":"y"}\n')
    read, _ = converted(tmp_path, "a.jsonl", "b.jsonl")
    assert read.in_place
    assert read.rows == 101


N, X = b'{"a":null}\n', b'{"a":"x"}\n'
BOTH = b'{"a":"x","b":1}\n'
FORMS: dict[str, tuple[list[bytes], bool]] = {
    "nulls, then texts": ([N * 300 + X * 300], True),
    "nulls, then texts, twice": ([N * 300 + X, X * 300 + N], True),
    "an empty file beside": ([b"", X], True),
    "a late column": ([X * 300 + BOTH * 300], False),
    "a late column in another file": ([X * 300, BOTH * 300], False),
    "an early column in another file": ([BOTH * 300, X * 300], False),
    "integers, then a float": ([b'{"a":1}\n' * 300 + b'{"a":0.5}\n'], False),
    "a space, early": ([b'{"a": "x"}\n' + X * 300], False),
    "a space, late": ([X * 300 + b'{"a": "x"}\n' * 300], False),
    "a tab, late": ([X * 300 + b'{"a":\t"x"}\n' * 300], False),
    "CRLF": ([X.replace(b"\n", b"\r\n") * 300], False),
    "a blank line, early": ([b"\n" + X * 300], False),
    "a blank line, late": ([X * 300 + b"\n"], False),
    "an escape": ([X * 300 + b'{"a":"\\u0041"}\n' + X], False),
    "other order": ([BOTH * 300 + b'{"b":1,"a":"x"}\n'], False),
    "a mark": ([b"\xef\xbb\xbf" + X * 300], False),
    "no line feed": ([X * 300 + X[:-1]], False),
    "an array": ([b"[" + X[:-1] + b"]\n"], False),
    "one row": ([X], True),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("block", [1000, 1 << 18])
def test_what_is_canonical_is_known_and_the_rest_is_copied(
    name: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicert.records.reader.BLOCK", block)
    contents, in_place = FORMS[name]
    names = tuple(f"{number}.jsonl" for number in range(len(contents)))
    for file, content in zip(names, contents, strict=True):
        (tmp_path / file).write_bytes(content)
    read, data = converted(tmp_path, *names)
    assert read.in_place is in_place
    plain = (
        [json.loads(line) for line in b"\n".join(contents).split(b"\n") if line.strip()]
        if (not contents[0].startswith((b"\xef", b"[")))
        else [{"a": "x"}] * read.rows
    )
    names_of_columns = [column for column, _ in read.schema.columns]
    assert [json.loads(line) for line in data.splitlines()] == [
        {column: row.get(column) for column in names_of_columns} for row in plain
    ]


def test_a_file_that_changes_between_its_readings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    selection = convert.learn(tmp_path, ["a.jsonl"])
    path.write_bytes(b'{"a": 1, "b": 2}\n')
    with pytest.raises(RowsRefused, match="its columns differ from those of the first reading"):
        convert.write(selection, io.BytesIO(), 100)


@pytest.mark.parametrize(
    ("line", "row"),
    [
        # Strings that are not valid text, after many lines that were matched without a parser.
        (rb'{"a": "\ud83d", "b": 1}', None),
        (rb'{"a": "\ud83d\u0041", "b": 1}', None),
        (b'{"a": "\x00", "b": 1}', None),
        (rb'{"\u0061": "x", "b": 1}', {"a": "x", "b": 1}),
        (rb'{\u0022a": "x", "b": 1}', None),
        (rb'{"a": "x\\", "b": 1}', {"a": "x\\", "b": 1}),
        (rb'{"a": "x\u0022, \u005c", "b" : 1}', {"a": 'x", \\', "b": 1}),
        (rb'{"a": "\u0000\/\\\" : {", "b": 1}', {"a": '\0/\\" : {', "b": 1}),
        (rb'{"a": "\u0041 \u0008\u005cb \b\u005c\u0062", "b": 1}', {"a": "A \b\\b \b\\b", "b": 1}),
        (rb'{"a": "x", "b": 1 2}', None),
        (b'{"a":\t"x  y",\r "b": -1\r}\r', {"a": "x  y", "b": -1}),
        (rb'{"a": "x", "b": 1}', {"a": "x", "b": 1}),
    ],
)
@pytest.mark.parametrize("blank", [b"", b" \t\r\n\n"])
def test_lines_with_spaces_mean_what_a_parser_says(
    tmp_path: Path, line: bytes, row: object, blank: bytes
) -> None:
    plain = rb'{"a": "\u00e9 \"b\" \\", "b": 12}' + b"\n"
    data = plain * MANY + blank + line + b"\n" + blank + plain * 3
    if row is None:
        with pytest.raises(RowsRefused) as refused:
            rows_of(tmp_path, "rows.jsonl", data)
        assert (refused.value.file, refused.value.row) == ("rows.jsonl", MANY + 1)
    else:
        assert json.loads(line) == row
        expected = [json.loads(plain)] * MANY
        assert rows_of(tmp_path, "rows.jsonl", data) == [*expected, row, *expected[:3]]


@pytest.mark.parametrize("separator", [":", ": "])
def test_a_long_line_full_of_quotes_is_a_row_like_others(tmp_path: Path, separator: str) -> None:
    plain = f'{{"a"{separator}"b"}}\n'.encode()
    long = json.dumps({"a": '"\\' * 400_000}, separators=(",", separator)).encode() + b"\n"
    assert len(long) > 1 << 20
    data = plain * MANY + long + plain * 3
    expected = [json.loads(line) for line in data.splitlines()]
    assert rows_of(tmp_path, "rows.jsonl", data) == expected


@pytest.mark.parametrize("escape", [r"\"", r"\\", r"\n", r"\u00e9", r"\/", r"\ud83d\ude00"])
@pytest.mark.parametrize("share", [1, 40])
def test_lines_with_few_and_with_many_escapes_are_read_alike(
    tmp_path: Path, escape: str, share: int
) -> None:
    plain = "x, y: z" * 40
    text = (escape * share + plain) * (2 if share == 1 else 20)
    good = f'{{"a": "{text}", "b": 1}}\n'.encode()
    # As many lines as are matched together, and one that only a parser reads.
    data = good * 200 + b'{"b": 2, "a": "\\\\"}\n' + good * 200
    rows = [json.loads(line) for line in data.splitlines()]
    assert rows_of(tmp_path, "rows.jsonl", data) == rows
    # A byte that the matcher uses internally for an escape is refused in the input.
    for byte in (b"\x00", b"\x01", b"\xff"):
        (folder := tmp_path / byte.hex()).mkdir()
        bad = good.replace(b"z", byte, 1)
        with pytest.raises(RowsRefused) as refused:
            rows_of(folder, "rows.jsonl", good * 300 + bad + good)
        assert refused.value.row == 301


def test_a_copy_that_scratch_cannot_hold_says_by_how_much(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' * 100)
    with pytest.raises(RowsRefused, match="take 800 bytes, and scratch is short by 101 bytes"):
        converted(tmp_path, "a.jsonl", scratch=699)
