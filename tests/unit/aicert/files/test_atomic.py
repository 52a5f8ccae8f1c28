"""Files that are replaced as a whole, or stay as they were."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.errors import ToolError
from aicert.files.atomic import check_place, require_replaceable, write_atomically


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    place = tmp_path / "README.md"
    write_atomically(place, b"before")
    place.chmod(0o640)
    write_atomically(place, b"after")
    assert place.read_bytes() == b"after"
    assert require_replaceable(place) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.mkdir(), "a directory"),
        (lambda path: path.symlink_to("elsewhere"), "a link or a special file"),
        (os.mkfifo, "a link or a special file"),
    ],
)
def test_only_a_file_is_replaced(tmp_path: Path, make: Callable[[Path], None], kind: str) -> None:
    place = tmp_path / "page.html"
    make(place)
    for function in (require_replaceable, check_place, lambda path: write_atomically(path, b"")):
        with pytest.raises(ToolError, match=f"it is {kind}") as refused:
            function(place)
        assert refused.value.hint == "name a file"
    assert not place.is_file()


def test_a_place_is_refused_before_much_is_read_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_place(tmp_path / "page.html")
    with pytest.raises(ToolError, match="there is no such directory") as missing:
        check_place(tmp_path / "a b" / "page.html")
    assert missing.value.hint == f"mkdir -p '{tmp_path}/a b'"
    # Root may write anywhere, so access is denied here by hand.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ToolError, match="the directory is not writable"):
        check_place(tmp_path / "page.html")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def cut(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises((KeyboardInterrupt, ToolError)):
        write_atomically(tmp_path / "model.sig", b"new")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "README.md"
    place.write_text("before")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(place, b"after")
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]
    assert place.read_text() == "before"


def test_a_place_that_cannot_be_looked_at_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match="Not a directory"):
        write_atomically(tmp_path / "file" / "page.html", b"")
    with pytest.raises(ToolError, match="No such file"):
        write_atomically(tmp_path / "none" / "page.html", b"")
