"""A review finds anything but plain files where only those belong, in checkout and revisions."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from rules.review import review
from rules.review.check import Check, check
from rules.review.plain_files import in_tree
from rules.review.revisions import Checkout, Revision
from tests.adversarial.forger import Scene
from tests.unit.review_project import checks_of, commit, git, make, relock, reviewed_text


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path / "project", monkeypatch)


def linked(root: Path, path: str, target: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        place.rename(place.with_name("moved"))
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(target)


def executable(root: Path, path: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    place.chmod(0o755)


def submodule(root: Path, path: str) -> None:
    folder = root / path
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "x")
    (root / path / "x").touch()


def folder(root: Path, path: str) -> None:
    (root / path).unlink()
    (root / path).mkdir()
    (root / path / "x").touch()


Change = Callable[[Path, str], None]


def link_to(target: str) -> Change:
    return lambda root, path: linked(root, path, target)


def plain(root: Path, path: str) -> None:
    (root / path).write_text("x")


def pipe(root: Path, path: str) -> None:
    os.mkfifo(root / path)


def listening(root: Path, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / path))


CERTIFICATE = "certificates/tiny/certificate.json"
# What is made, where, and how the review describes it.
CHANGES: list[tuple[Change, str, str]] = [
    (link_to("/x"), CERTIFICATE, "a link"),
    (link_to("../../tiny.yml"), CERTIFICATE, "a link"),
    (link_to("/x"), "certificates/other", "a link"),
    (link_to("elsewhere"), "certificates", "a link"),
    (link_to("moved"), "lockfiles", "a link"),
    (link_to("/etc/passwd"), "lockfiles/tiny.lock.toml", "a link"),
    (link_to("x"), "lockfiles/tiny/data.sha256", "a link"),
    (link_to("tiny.yml"), "aicert.toml", "a link"),
    (executable, "certificates/tiny/x", "an executable file"),
    (executable, "aicert.toml", "an executable file"),
    (plain, "certificates", "a file in the place of a folder"),
]
IN_GIT: list[tuple[Change, str, str]] = [
    *CHANGES,
    (submodule, "certificates/sub", "a submodule"),
    (folder, "aicert.toml", "below aicert.toml, which is a folder"),
]
AT_HAND: list[tuple[Change, str, str]] = [
    *CHANGES,
    (pipe, "lockfiles/x", "a pipe"),
    (listening, "lockfiles/y", "a socket"),
    (folder, "aicert.toml", "a folder in the place of a file"),
]


def failed(path: str, kind: str) -> Check:
    return Check(what=path, verdict="failed", detail=f"{kind}: only plain files may be there")


@pytest.mark.parametrize(("change", "path", "kind"), AT_HAND)
def test_of_the_checkout(root: Path, change: Change, path: str, kind: str) -> None:
    assert not [each for each in checks_of(root).values() if each.verdict == "failed"]
    change(root, path)
    assert checks_of(root)[path] == failed(path, kind)
    assert f"warning: {path} is {kind}: only plain files may be there" in reviewed_text(root)


@pytest.mark.parametrize(("change", "path", "kind"), IN_GIT)
def test_of_a_revision(root: Path, change: Change, path: str, kind: str, tmp_path: Path) -> None:
    base = Revision(root, "HEAD")
    change(root, path)
    head = Revision(root, commit(root, "change"))
    # The review checks a copy, which contains none of this.
    tree = tmp_path / "tree"
    tree.mkdir()
    head.lay_out(tree)
    path += "/x" if "which is a folder" in kind else ""
    checks = {each.what: each for each in check(tree, base, Scene().get("policy"), head)}
    assert checks[path] == failed(path, kind)
    warnings = review.review(root, base, head).warnings
    assert f"{path} is {kind}: only plain files may be there" in warnings


def test_elsewhere_a_link_is_nobody_s_business(root: Path) -> None:
    linked(root, "docs/x", "/etc/passwd")
    linked(root, "certificates.md", "x")
    executable(root, "doit")
    head = Revision(root, commit(root, "change"))
    assert Checkout(root).odd() == head.odd() == []


def test_without_modes_nothing_is_executable(root: Path) -> None:
    executable(root, "certificates/x")
    git(root, "config", "core.fileMode", "false")
    assert Checkout(root).odd() == []


def test_nothing_is_read_through_a_link(root: Path) -> None:
    linked(root, "lockfiles", "moved")
    assert Checkout(root).read("lockfiles/tiny.lock.toml") is None
    relock(root)
    assert Checkout(root).read("lockfiles/tiny.lock.toml") is None


def test_an_unknown_mode_is_told() -> None:
    assert list(in_tree([(b"100664", "lockfiles/a"), (b"100644", "lockfiles/b")])) == [
        ("lockfiles/a", "an entry of mode 100664")
    ]
