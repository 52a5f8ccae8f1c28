import json
from pathlib import Path

import pytest

from aicert.records import convert, outcome
from aicert.records.errors import RowsRefused
from aicert.records.reader import RowsFact, check


def converted(folder: Path, *files: str, scratch: int = 1 << 20) -> tuple[outcome.Outcome, bytes]:
    """Converts `files` of `folder` as the program does; the rows that the trainer would get."""
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


def test_a_copy_that_scratch_cannot_hold_says_by_how_much(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' * 100)
    with pytest.raises(RowsRefused, match="take 800 bytes, and scratch is short by 101 bytes"):
        converted(tmp_path, "a.jsonl", scratch=699)
