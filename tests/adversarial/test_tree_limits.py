"""Trees that are too large, names that clash and links inside a path are named and refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.files import tree
from aicert.files.tree import SMALL, open_file, read_some, read_tree
from aicert.formats.digest import Defect
from aicert.formats.uncovered_names import FOLDERS
from aicert.verifier import model_directory

Maker = Callable[[Path], object]


def small(path: Path) -> None:
    path.write_bytes(b"x")


def large(path: Path) -> None:
    path.write_bytes(bytes(SMALL + 1))


def link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [small, large, link])
def test_everything_that_is_found_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Maker
) -> None:
    monkeypatch.setattr(tree, "MAX_FILES", 2)
    refused: list[str] = []

    def note(path: str, error: EvidenceError) -> None:
        refused.append(path)

    for name in "abc":
        make(tmp_path / name)
    seen = {*read_tree(tmp_path, refused=note), *refused}
    assert seen == {"a", "b", "c"}
    make(tmp_path / "d")
    with pytest.raises(EvidenceError, match=r"^more than 2 files under ''$"):
        read_tree(tmp_path, refused=note)


def test_long_names_are_shown_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("d" * 150) / ("e" * 150)
    folder.mkdir(parents=True)
    for name in "ab":
        small(folder / name)
    shown = f"{'d' * 150}/{'e' * 49}"
    with monkeypatch.context() as patched:
        patched.setattr(tree, "MAX_DEPTH", 1)
        with pytest.raises(EvidenceError) as caught:
            read_tree(tmp_path)
        assert caught.value.message == f"directories are nested deeper than 1: '{shown}'"
    monkeypatch.setattr(tree, "MAX_FILES", 0)
    with pytest.raises(EvidenceError) as caught:
        read_tree(tmp_path)
    assert caught.value.message == f"more than 0 files under '{shown}'"


def test_twins_are_told_of_the_whole_tree(tmp_path: Path) -> None:
    for name in ("a", "A"):
        small(tmp_path / name)
    refusals: list[tuple[str, str]] = []
    read_tree(tmp_path, refused=lambda path, error: refusals.append((path, error.message)))
    assert refusals == [(".", "two paths differ only in case or form: 'A', 'a'")]


@pytest.mark.parametrize("path", ["a/x", "a/b/x", "b/a/x"])
def test_no_link_in_the_middle_of_a_path_is_followed(tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    for place in (outside, outside / "b"):
        small(place / "x")
    for where in ("tree", "tree/b"):
        (tmp_path / where).mkdir()
        (tmp_path / where / "a").symlink_to(outside)
    with pytest.raises(EvidenceError) as caught:
        read_some(tmp_path / "tree", [path])
    assert caught.value.message == f"cannot read '{path}': Not a directory"
    with pytest.raises(EvidenceError, match=f"^cannot read '{path}'"):
        open_file(tmp_path / "tree", path)


def test_a_missing_tree_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(EvidenceError) as caught:
        read_tree(tmp_path / "missing")
    assert caught.value.message == f"cannot read {missing!a}: No such file or directory"


def test_what_cannot_be_read_ends_the_reading_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[tree._Walk] = []

    class Walk(tree._Walk):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            walks.append(self)

    monkeypatch.setattr(tree, "_Walk", Walk)
    link(tmp_path / "link")
    with pytest.raises(EvidenceError, match="'link' is a symbolic link"):
        read_tree(tmp_path)
    with pytest.raises(EvidenceError, match="cannot read 'missing'"):
        read_some(tmp_path, ["missing"])
    assert [walk.stopped for walk in walks] == [True, True]


def refusals_of(root: Path) -> dict[str, str]:
    refusals: dict[str, str] = {}
    read_tree(root, refused=lambda path, error: refusals.update({path: error.message}))
    return refusals


def test_each_refusal_is_told_of_its_own_path(tmp_path: Path) -> None:
    odd = "path has a control or invisible character, a backslash or is not in Unicode NFC: "
    empty = "an empty directory cannot be certified: "
    assert refusals_of(tmp_path) == {".": f"{empty}'.'"}
    (tmp_path / "c").mkdir()
    small(tmp_path / "a\\b")
    (tmp_path / "d\\e").mkdir()
    assert refusals_of(tmp_path) == {
        "c/": f"{empty}'c/'",
        "a\\b": f"{odd}'a\\\\b'",
        "d\\e": f"{odd}'d\\\\e'",
    }
    # Without the larger report, a folder's name is refused before its content is read.
    (tmp_path / "c").rmdir()
    (tmp_path / "a\\b").unlink()
    with pytest.raises(EvidenceError) as caught:
        read_tree(tmp_path)
    assert caught.value.message == f"{odd}'d\\\\e'"


def test_a_file_of_a_tree_that_grows_is_named(tmp_path: Path) -> None:
    large(tmp_path / "large")

    def grow(count: int) -> None:
        with (tmp_path / "large").open("ab") as file:
            file.write(b"x")

    with pytest.raises(EvidenceError) as caught:
        read_tree(tmp_path, on_bytes=grow)
    assert caught.value.message == "file changed while it was read: 'large'"
    assert caught.value.hint == "run it again while nothing writes there"


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_folders_that_are_no_part_of_a_model_are_named_and_not_read(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir(parents=True)
    assert model_directory.read_model(tmp_path)[name] == Defect("not read")
