"""`aicert init` in new repositories, from a small `aicert_build/`."""

import os
from pathlib import Path

import pytest

from aicert.cli import init
from aicert.cli.main import main

LINES = b"# aicert\n/.aicert/\n/outputs/\n"
SOURCES = {*init.OURS.values(), *init.THEIRS.values(), *init.LINES.values()} - {init.TOOL}
# Git's own files are not needed: any `.git` marks a repository.


def make_home(home: Path, version: str = "1.0") -> None:
    for name in SOURCES:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"# {name}\n")
    (home / init.OURS["doit"]).write_bytes(b"#!/bin/sh\n# " + init._MARK + b" " + version.encode())
    (home / init.LINES[".gitignore"]).write_bytes(LINES)
    (home / init.THEIRS["dodo.py"]).write_text(f"{init._DODO}\n")
    (home / "rules/__pycache__").mkdir()
    (home / "rules/__pycache__/x.pyc").touch()
    (home / init.TOOL).write_text(init.tool(version, init.digest_of(home)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "packages/aicert_build"
    make_home(place)
    monkeypatch.setattr(init, "HOME", place)
    return place


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "repository"
    (root / ".git").mkdir(parents=True)
    monkeypatch.chdir(root)
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".aicert" not in path.parts
    }


def test_an_empty_repository(
    home: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    assert set(tree(repository)) == {*init.OURS, *init.THEIRS, *init.LINES}
    assert (repository / init.RECORD).read_bytes() == (home / init.TOOL).read_bytes()
    assert (repository / "doit").stat().st_mode & 0o777 == 0o755
    assert (repository / ".aicert/tool").readlink() == home
    printed = capsys.readouterr().out
    assert "wrote     aicert.toml\n" in printed
    assert f"root      {repository}\n" in printed
    assert "add       to dodo.py" not in printed


def test_again_nothing_changes(
    home: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    before = tree(repository)
    capsys.readouterr()
    assert main(["init"]) == 0
    assert tree(repository) == before
    assert "wrote" not in capsys.readouterr().out


def test_what_is_there_stays(
    home: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = {
        "aicert.toml": b"[runs]\r\n",
        "dodo.py": b"def task_mine(): pass\n",
        ".dvc/config": b"[core]\n",
        "lockfiles/image.lock.toml": b"of image_update\n",
    }
    for name, data in theirs.items():
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(data)
    (repository / ".gitignore").write_bytes(b"*.pyc\n/outputs/")
    (repository / ".gitattributes").write_bytes(b"* text\n")
    assert main(["init"]) == 0
    files = tree(repository)
    assert {name: files[name] for name in theirs} == theirs
    assert files[".gitignore"] == b"*.pyc\n/outputs/\n# aicert\n/.aicert/\n"
    assert files[".gitattributes"].startswith(b"* text\n#")
    printed = capsys.readouterr().out
    assert "kept      dodo.py\n" in printed
    assert f"add       to dodo.py, as its first line: {init._DODO}\n" in printed


def test_from_a_folder_inside(
    home: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "a/b").mkdir(parents=True)
    monkeypatch.chdir(repository / "a/b")
    assert main(["init"]) == 0
    assert (repository / "doit").is_file()
    assert list((repository / "a/b").iterdir()) == []


def test_outside_of_git(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert main(["init"]) == 3
    assert "is not in a git repository" in capsys.readouterr().err


def test_another_doit_is_not_replaced(
    home: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "doit").write_text("#!/bin/sh\nmine\n")
    before = tree(repository)
    for words in (["init"], ["init", "--upgrade"]):
        assert main(words) == 3
        assert tree(repository) == before
    assert "not aicert's" in capsys.readouterr().err


def test_another_version_is_said_and_replaced_when_asked(
    home: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    make_own = {"aicert.toml": b"[machines]\n", "dodo.py": b"mine\n"}
    for name, data in make_own.items():
        (repository / name).write_bytes(data)
    before = tree(repository)
    (home / init.TOOL).unlink()
    (home / "rules/__pycache__/x.pyc").unlink()
    (home / "rules/__pycache__").rmdir()
    make_home(home, "2.0")
    assert main(["init"]) == 3
    assert tree(repository) == before
    assert "hint: aicert init --upgrade" in capsys.readouterr().err
    assert main(["init", "--upgrade"]) == 0
    after = tree(repository)
    assert {name for name in after if after[name] != before[name]} == {"doit", init.RECORD}
    assert b'version = "2.0"' in after[init.RECORD]


def test_a_checkout_has_nothing_to_give(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(init, "HOME", tmp_path / "nowhere")
    assert main(["init"]) == 3
    assert "checkout that is not installed" in capsys.readouterr().err
    assert list(repository.iterdir()) == [repository / ".git"]


def test_a_package_that_was_edited(
    home: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "rules/starter/review.yml").write_text("other\n")
    assert main(["init"]) == 2
    assert "its files were changed" in capsys.readouterr().err
    assert list(repository.iterdir()) == [repository / ".git"]


def test_a_link_is_not_written_through(home: Path, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x\n")
    os.symlink(tmp_path / "theirs", repository / ".gitignore")
    assert main(["init"]) == 2
    assert (tmp_path / "theirs").read_text() == "x\n"
