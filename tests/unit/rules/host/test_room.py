"""What is large is not begun where there is no room for it."""

from pathlib import Path

import pytest

from aicert.errors import ToolError
from rules.host import room, tool_envs, training_env
from rules.image.place import Place

GB = room.GB


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Make every disk one with 3 GB left; return the folders that were asked about."""
    asked: list[Path] = []

    def usage(folder: Path) -> tuple[int, int, int]:
        asked.append(folder)
        return 9 * GB, 6 * GB, 3 * GB

    monkeypatch.setattr("shutil.disk_usage", usage)
    monkeypatch.setenv("AICERT_CACHE", str(tmp_path))
    return asked


def test_room_is_looked_for_where_the_folder_will_be(disk: list[Path], tmp_path: Path) -> None:
    room.require(tmp_path / "a/b", 3 * GB, "it")
    assert disk == [tmp_path]
    with pytest.raises(ToolError, match=r"it needs 2\.8 GiB, and 2\.8 GiB are free in ") as caught:
        room.require(tmp_path, 3 * GB + 1, "it")
    assert "AICERT_CACHE" in str(caught.value.hint)


def test_environments_are_not_begun_without_room(
    disk: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ToolError, match=r"the training environment needs 3\.7 GiB"):
        training_env.ensure(tmp_path)
    monkeypatch.setattr(training_env, "ensure_shown", lambda root: tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: (GB, GB, 1000))
    with pytest.raises(ToolError, match="the folder for the packages of mergekit needs 476"):
        tool_envs.ensure_shown(tmp_path, "mergekit")
    assert not tool_envs.location(tmp_path, "mergekit").exists()


def test_layers_of_images_are_not_begun_without_room(disk: list[Path], tmp_path: Path) -> None:
    place = Place(root=tmp_path, cache=tmp_path)
    for name in ("image-0a", "training-0a", "tools-0a"):
        assert place.has(tmp_path / name) is False
    with pytest.raises(ToolError, match=r"layer machine of the image needs 3\.7 GiB"):
        place.has(tmp_path / "machine-0a")
    with pytest.raises(ToolError, match=r"layer image of the image needs 5\.6 GiB"):
        Place(root=tmp_path, cache=tmp_path, gpu=True).has(tmp_path / "image-0a")
    (tmp_path / "machine-0a").mkdir()
    assert place.has(tmp_path / "machine-0a") is True
    with pytest.raises(ToolError, match="the image is not built"):
        Place(root=tmp_path, cache=tmp_path, makes=False).has(tmp_path / "image-0a")
