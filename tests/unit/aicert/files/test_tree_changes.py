"""Trees that somebody changes while they are read are refused, and the reading ends."""

import os
from pathlib import Path

import pytest

from aicert.errors import EvidenceError
from aicert.files import tree
from aicert.files.tree import read_file, read_tree
from tests.unit.aicert.files.test_tree import LARGE, Maker, fifo, link, write_files


def test_a_large_file_that_grows_is_refused_and_reading_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)

    def grow(count: int) -> None:
        with path.open("ab") as file:
            file.write(bytes(count))

    with pytest.raises(EvidenceError, match="changed while it was read"):
        read_file(path, on_bytes=grow)
    assert path.stat().st_size < 10 * tree.BLOCK


def test_a_large_file_that_is_written_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    os.utime(path, ns=(0, 0))

    def write(_: int) -> None:
        path.write_bytes(LARGE)

    with pytest.raises(EvidenceError, match="changed while it was read"):
        read_file(path, on_bytes=write)


def test_a_small_file_that_shrinks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"before")
    fstat = os.fstat

    def late(fd: int) -> os.stat_result:
        status = fstat(fd)
        path.write_bytes(b"now")
        return status

    monkeypatch.setattr(os, "fstat", late)
    with pytest.raises(EvidenceError, match="changed while it was read") as error:
        read_file(path)
    assert error.value.hint is not None


def test_a_folder_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    write_files(tmp_path, {"tree/a/x": b"", "elsewhere/x": b"secret"})

    def swap(path: str) -> bool:
        if path == "a/":
            (tmp_path / "tree" / "a").rename(tmp_path / "away")
            (tmp_path / "tree" / "a").symlink_to(tmp_path / "elsewhere")
        return False

    with pytest.raises(EvidenceError, match="cannot read"):
        read_tree(tmp_path / "tree", skip=swap)


def vanish(path: Path) -> None:
    """Leave no file in place of the one that was removed."""


@pytest.mark.parametrize("make", [link, fifo, Path.mkdir, vanish])
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_file_swapped_before_it_is_opened(tmp_path: Path, make: Maker, size: str) -> None:
    write_files(tmp_path, {"x": b"x" if size == "small" else LARGE})

    def swap(path: str) -> bool:
        (tmp_path / path).unlink()
        make(tmp_path / path)
        return False

    with pytest.raises(EvidenceError, match=r"cannot read|only regular files"):
        read_tree(tmp_path, skip=swap)


@pytest.mark.parametrize("make", [link, fifo, Path.mkdir, vanish])
@pytest.mark.parametrize("name", ["a/second", "a"])
def test_a_large_file_swapped_while_another_is_read(tmp_path: Path, make: Maker, name: str) -> None:
    root = write_files(tmp_path / "tree", {"first": LARGE * 2, "a/second": LARGE})
    swapped: list[int] = []

    def swap(count: int) -> None:
        if not swapped:
            swapped.append(count)
            (root / name).rename(tmp_path / "away")
            make(root / name)

    with pytest.raises(EvidenceError, match=r"cannot read 'a/second'|only regular files"):
        read_tree(root, on_bytes=swap, threads=1)


def test_after_a_failure_no_other_file_is_opened(tmp_path: Path) -> None:
    walk = tree._Walk(None, None, None, None, None, None)
    walk.stopped = True
    walk.file_at(tmp_path, "missing")
    assert walk.files == {}


def test_reading_a_large_file_ends_soon_after_the_reading_of_all(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(8 * tree.BLOCK))
    seen: list[int] = []

    def stop(count: int) -> None:
        seen.append(count)
        walk.stopped = True

    walk = tree._Walk(stop, None, None, None, None, None)
    with pytest.raises(EvidenceError, match=r"^the reading of other files ended$"):
        walk.file_at(tmp_path, "large")
    assert len(seen) == 1
