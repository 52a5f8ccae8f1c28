"""`./doit add` and rows: it reports when rows are not canonical, and converts them."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.records.errors import RowsRefused
from rules.commands.add import Add
from rules.project import canonical
from tests.unit.review_project import make

ROW = b'{"a":"x"}\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make(tmp_path / "project", monkeypatch)
    # `add` refuses a config that no run could use, whatever is added.
    (root / "tiny.yml").write_text(f"base_model: input:base\n{(root / 'tiny.yml').read_text()}")
    monkeypatch.chdir(root)
    return root


def add(*arguments: str) -> int:
    command = Add()
    return int(command.parse_execute(list(arguments)))


def test_rows_that_each_run_would_copy_are_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "rows.csv").write_bytes(b"a\nx\n")
    assert add("tiny", "rows", "path:rows.csv") == 0
    err = capsys.readouterr().err
    assert "rows  rows: each run copies them into canonical form" in err
    assert "hint: ./doit add tiny rows path:rows.csv --canonical" in err


def test_they_are_made_canonical_and_added(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "rows.csv").write_bytes(b"a\nx\n")
    for _ in range(2):
        assert add("tiny", "rows", "path:rows.csv", "--canonical") == 0
        assert (root / "rows.canonical.jsonl").read_bytes() == ROW
        assert 'rows = "path:rows.canonical.jsonl"' in (root / "aicert.toml").read_text()
        assert "canonical form" not in capsys.readouterr().err
    assert not list(root.glob(".canonical-*"))


def test_what_is_canonical_is_added_as_it_is(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "rows.jsonl").write_bytes(ROW)
    assert add("tiny", "rows", "path:rows.jsonl", "--canonical") == 0
    assert add("tiny", "rows", "path:rows.jsonl") == 0
    assert 'rows = "path:rows.jsonl"' in (root / "aicert.toml").read_text()
    assert "canonical" not in capsys.readouterr().err


def test_rows_that_a_run_would_refuse_are_said_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "rows.jsonl").write_bytes(b'{"a":1,"a":2}\n')
    assert add("tiny", "rows", "path:rows.jsonl") == 0
    assert "a run would refuse this file: 'rows.jsonl', row 1: key 'a'" in capsys.readouterr().err
    with pytest.raises(RowsRefused, match="row 1: key 'a' is given twice"):
        canonical.write(root, "path:rows.jsonl")


def test_other_rows_are_not_written_over(root: Path) -> None:
    (root / "rows.csv").write_bytes(b"a\nx\n")
    (root / "rows.canonical.jsonl").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="already exists with other rows"):
        canonical.write(root, "path:rows.csv")
    assert (root / "rows.canonical.jsonl").read_bytes() == b"mine"


@pytest.mark.parametrize("source", ["path:data", "path:rows.zip", "hf:a/b", "path:tiny.yml"])
def test_what_is_no_file_of_rows_is_left_alone(source: str, root: Path) -> None:
    (root / "rows.zip").write_bytes(b"x")
    (root / "data.jsonl").mkdir()
    assert canonical.advice(root, "tiny", "rows", source) is None
    assert canonical.advice(root, "tiny", "rows", "path:data.jsonl") is None
    with pytest.raises(ConfigError, match="one file of rows"):
        canonical.write(root, source)
