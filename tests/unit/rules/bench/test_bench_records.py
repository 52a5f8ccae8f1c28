"""The benchmark of rows reads what it claims to read, and leaves no files behind."""

from pathlib import Path

import pytest

from aicert.records.convert import learn
from rules.bench import records


def test_each_form_is_what_it_is_called(tmp_path: Path) -> None:
    canonical, spaced = records.block(canonical=True), records.block(canonical=False)
    for name, data, in_place in (
        ("in_place", canonical, True),
        ("copied", canonical[:-1], False),
        ("spaced", spaced, False),
    ):
        (tmp_path / f"{name}.jsonl").write_bytes(data)
        assert learn(tmp_path, [f"{name}.jsonl"]).in_place == in_place


def test_files_are_read_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "SMALL", 1)
    monkeypatch.setattr(records, "LARGE", 1)
    measured = records.measure(tmp_path)
    for reading in (measured.in_place, measured.copied, measured.spaced, measured.large):
        assert reading.rate > 0
        assert reading.memory > 1 << 20
    assert not list(tmp_path.iterdir())
