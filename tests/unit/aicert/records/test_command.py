"""`aicert records`, and the converter run as a program."""

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aicert.cli import main
from aicert.errors import EvidenceError
from aicert.formats.digest import of_bytes
from aicert.records import convert, outcome
from aicert.records.errors import RowsRefused

CANONICAL = b'{"a":1}\n{"a":null}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "rows"
    (root / "data").mkdir(parents=True)
    (root / "README.md").write_text("---\nconfigs: other.jsonl\n---\n")
    (root / "data" / "train.jsonl").write_bytes(CANONICAL)
    (root / "data" / "test.jsonl.gz").write_bytes(gzip.compress(b'{"a": 2}\n'))
    return root


def test_splits_are_counted_as_run_reports_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["records", str(folder), "--format", "json"]) == 0
    test, train = json.loads(capsys.readouterr().out)
    assert train == {
        "bytes": len(CANONICAL),
        "canonical": True,
        "digest": str(of_bytes(CANONICAL)),
        "files": ["data/train.jsonl"],
        "name": "rows",
        "rows": 2,
        "split": "train",
        "unreadBytes": 0,
    }
    assert test["digest"] == str(of_bytes(b'{"a":2}\n'))
    assert (test["split"], test["canonical"]) == ("test", False)


def test_people_are_shown_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["records", str(folder / "data" / "train.jsonl"), str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("rows      train.jsonl train: 2 rows, 19 bytes, canonical as it is\n")
    assert out.count(str(of_bytes(CANONICAL))) == 2
    assert "          data/train.jsonl\n" in out


def test_the_canonical_form_is_written_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canonical = tmp_path / "made.jsonl"
    command = ["records", str(folder), "--split", "test", "--canonical", str(canonical)]
    assert main.main(command) == 0
    assert canonical.read_bytes() == b'{"a":2}\n'
    assert main.main(command) == 2
    assert "File exists" in capsys.readouterr().err


def test_nothing_is_left_of_rows_that_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a":"\\ud800"}\n')
    canonical = tmp_path / "made.jsonl"
    assert main.main(["records", str(tmp_path / "a.jsonl"), "--canonical", str(canonical)]) == 2
    assert "'a.jsonl', row 1: a string has half a surrogate pair" in capsys.readouterr().err
    assert not canonical.exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--split", "more"], 3, "no split is called 'more'"),
        (["--canonical", "x.jsonl"], 3, "--canonical takes one split"),
        (["--data-files", "*.jsonl"], 2, "no file is called"),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], code: int, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["records", str(folder), *options]) == code
    assert words in capsys.readouterr().err


def test_data_files_are_of_directories(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "data" / "train.jsonl")
    assert main.main(["records", path, "--data-files", "a"]) == 3
    assert main.main(["records", str(folder), "--data-files", "data/train*"]) == 0
    assert "train: 2 rows" in capsys.readouterr().out


def test_links_and_odd_folders_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicert.cli.records.MAX_FILES", 2)
    assert main.main(["records", str(folder)]) == 2
    assert "more than 2 files" in capsys.readouterr().err
    (folder / "a.jsonl").symlink_to("data/train.jsonl")
    assert main.main(["records", str(folder)]) == 2
    assert "'a.jsonl': neither a file nor a directory" in capsys.readouterr().err
    assert main.main(["records", str(folder / "none.jsonl")]) == 2
    assert "No such file" in capsys.readouterr().err
    monkeypatch.setattr("os.walk", unreadable)
    assert main.main(["records", str(folder)]) == 2
    assert "cannot read 'data': Permission denied" in capsys.readouterr().err


def unreadable(root: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, str, str]]:
    # Root can read every folder, so the error is raised here by hand.
    onerror(PermissionError(13, "Permission denied", "data"))
    yield from ()


def test_what_needs_pyarrow_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd\x20\x00\x01\0\0")
    assert main.main(["records", str(tmp_path / "a.jsonl.zst")]) == 3
    assert "pip install '.[records]'" in capsys.readouterr().err


def run(request: bytes, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(request)))
    monkeypatch.setattr("tempfile.tempdir", None)
    out.mkdir()
    return convert.main([str(out)])


def test_the_program_leaves_what_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ("data/test.jsonl.gz", "data/train.jsonl")
    request = convert.Request(root=str(folder), files=files, scratch=100)
    assert run(request.emit(), tmp_path / "out", monkeypatch) == 0
    read = outcome.read(tmp_path / "out", files)
    assert (read.rows, [file.rows for file in read.files]) == (3, [1, 2])
    with pytest.raises(EvidenceError, match="did not read exactly the files it was given"):
        outcome.read(tmp_path / "out", files[:1])


def test_the_program_says_what_it_refuses(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = convert.Request(root=str(folder), files=("README.md",), scratch=100)
    assert run(request.emit(), tmp_path / "out", monkeypatch) == 2
    with pytest.raises(RowsRefused) as caught:
        outcome.read(tmp_path / "out", ("README.md",))
    assert (caught.value.file, caught.value.row) == ("README.md", None)
    assert caught.value.hint is not None


def test_a_request_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(b"{}", tmp_path / "out", monkeypatch) == 2
    with pytest.raises(RowsRefused, match=r"request\.root is missing"):
        outcome.read(tmp_path / "out", ())


def test_rows_are_not_counted_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "COUNTED", 0)
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n')
    request = convert.Request(root=str(tmp_path), files=("a.jsonl",), scratch=1)
    (tmp_path / "out").mkdir()
    with pytest.raises(RowsRefused, match=r"take more than 8 bytes, .* short by more than 7 bytes"):
        convert.convert(request, tmp_path / "out")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"rows": 2}, "sums do not match its files"),
        ({"unreadBytes": 2}, "sums do not match its files"),
        ({"version": 2}, "version is not 1"),
        ({"more": 2}, "unknown key 'more'"),
        ({"inPlace": 1}, "expected true or false"),
    ],
)
def test_facts_that_do_not_fit_are_refused(
    facts: dict[str, object], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n')
    (tmp_path / "out").mkdir()
    request = convert.Request(root=str(tmp_path), files=("a.jsonl",), scratch=100)
    convert.convert(request, tmp_path / "out")
    place = tmp_path / "out" / convert.FACTS
    place.write_text(json.dumps(json.loads(place.read_bytes()) | facts))
    with pytest.raises(EvidenceError, match=reason):
        outcome.read(tmp_path / "out", ("a.jsonl",))
