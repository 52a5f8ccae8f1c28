"""Removing a working folder removes all of it, and nothing that it only links to."""

from pathlib import Path

import pytest

from rules.host.work import remove


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return a user's own folder, which nobody else may change."""
    folder = tmp_path / "kept"
    (folder / "inner").mkdir(parents=True)
    (folder / "weights").write_text("bytes")
    (folder / "inner").chmod(0o555)
    folder.chmod(0o555)
    return folder


def is_as_it_was(kept: Path) -> bool:
    modes = [folder.stat().st_mode & 0o777 for folder in (kept, kept / "inner")]
    return modes == [0o555, 0o555] and (kept / "weights").read_text() == "bytes"


def test_a_link_goes_and_what_it_names_stays(tmp_path: Path, kept: Path) -> None:
    work = tmp_path / "work"
    work.symlink_to(kept)
    remove(work)
    assert not work.is_symlink()
    assert is_as_it_was(kept)


def test_links_in_it_go_and_what_they_name_stays(tmp_path: Path, kept: Path) -> None:
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    for place in (work / "link", work / "deep" / "link"):
        place.symlink_to(kept)
    (work / "gone").symlink_to(tmp_path / "nowhere")
    remove(work)
    assert not work.exists()
    assert is_as_it_was(kept)


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_folders_without_rights_go(tmp_path: Path, mode: int) -> None:
    work = tmp_path / "work"
    inner = work / "inner" / "deep"
    inner.mkdir(parents=True)
    (inner / "file").write_text("")
    for folder in (inner, inner.parent, work):
        folder.chmod(mode)
    remove(work)
    assert not work.exists()


def test_a_file_and_nothing_at_all(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.write_text("")
    remove(work)
    assert not work.exists()
    remove(work)
