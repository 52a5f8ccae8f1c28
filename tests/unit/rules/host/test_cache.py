"""One place for all large files that can be recreated, under whichever name it is given."""

import re
from pathlib import Path

import pytest

from rules.dvc import environment
from rules.host import bootstrap, training_env
from rules.image import build
from rules.project import sources

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """Return a folder that seems to be on another disk, by its path."""
    folder = tmp_path / "far"
    folder.mkdir()
    return folder.resolve()


def places(root: Path) -> set[Path]:
    return {
        sources.store(root).root.parent,
        training_env.location(root).parents[1],
        build.place(root).cache.parent,
        bootstrap.cache_directory(root),
    }


def test_it_is_aicert_in_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AICERT_CACHE", raising=False)
    assert places(tmp_path) == {tmp_path.resolve() / ".aicert"}
    assert environment.location().parents[1] == (ROOT / ".aicert").resolve()


def test_an_empty_variable_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICERT_CACHE", "")
    assert places(tmp_path) == {tmp_path.resolve() / ".aicert"}


def test_a_link_in_the_checkout_leads_out_of_it(
    tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AICERT_CACHE", raising=False)
    root = tmp_path / "checkout"
    root.mkdir()
    (root / ".aicert").symlink_to(far)
    assert places(root) == {far}


@pytest.mark.parametrize("name", ["far", "link", "./link/../far"])
def test_the_variable_names_another(
    tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AICERT_CACHE", name)
    (tmp_path / "link").symlink_to(far)
    assert places(tmp_path / "checkout") == {far}


def test_nothing_else_reads_the_variable() -> None:
    reads = re.compile(r"environ(?:\.get\(|\[)\s*\"AICERT_CACHE\"")
    readers = [
        path.name for path in (ROOT / "rules").rglob("*.py") if reads.search(path.read_text())
    ]
    assert readers == ["bootstrap.py"]
