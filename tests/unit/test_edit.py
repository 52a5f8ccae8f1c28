"""`./doit add` and `./doit update` edit aicert.toml as people would, or change nothing."""

from pathlib import Path

import pytest

from aicert.errors import AicertError, ConfigError
from rules import config, edit, lock, review_text
from tests.unit.review_project import TOML, make


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path / "project", monkeypatch)


def test_add_keeps_comments_order_and_style_and_shows_the_change(root: Path) -> None:
    (root / "more.txt").write_text("x")
    found = edit.add(root, "tiny", "more", "path:more.txt", allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML.replace(
        'data = "path:data"\n', 'data = "path:data"\nmore = "path:more.txt"\n'
    )
    assert "input more: from" in review_text.text(found)
    edit.add(root, "tiny", "more", "path:more.txt", allow_pickle=True)
    text = (root / "aicert.toml").read_text()
    assert 'more = {from = "path:more.txt", allow-pickle = true}' in text
    edit.add(root, "tiny", "config", "path:more.txt", allow_pickle=False)
    assert 'config  = "path:more.txt"     # how' in (root / "aicert.toml").read_text()


def test_add_makes_a_run_from_its_config(root: Path) -> None:
    found = edit.add(root, "next", "config", "path:tiny.yml", allow_pickle=False)
    assert [section.title for section in found.sections] == ["run next"]
    project = config.load(root)
    assert project.run("next").machine.name == "here"
    with pytest.raises(ConfigError, match="no run 'absent'"):
        edit.add(root, "absent", "data", "path:data", allow_pickle=False)


@pytest.mark.parametrize("source", ["path:absent", "path:../x", "what:ever"])
def test_add_that_fails_changes_nothing(root: Path, source: str) -> None:
    before = lock.read(root, "tiny")
    with pytest.raises(AicertError):
        edit.add(root, "tiny", "more", source, allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML
    assert lock.read(root, "tiny") == before


def test_add_that_is_interrupted_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lock, "resolve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        edit.add(root, "tiny", "more", "path:tiny.yml", allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML


def test_update_shows_what_moved(root: Path) -> None:
    (root / "data" / "train.jsonl").write_text("{}\n")
    runs = list(config.load(root).runs.values())
    assert "train.jsonl" in review_text.text(edit.update(root, runs, "data"))
    with pytest.raises(ConfigError, match="no input 'datum'"):
        edit.update(root, runs, "datum")
