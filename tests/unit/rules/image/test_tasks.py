"""`./doit image` and `image_reproduce`: where they build, and their verdict on a lock."""

import dataclasses
from pathlib import Path

import pytest

from aicert.errors import ConfigError, ToolError
from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from aicert.formats.image_lock import Package
from rules.image import build as image_build
from rules.image import resolve, tasks, wheels
from rules.image.build import LOCK, Place
from rules.image.store import FIRMWARE, Image

PACKAGES = (Package(part="machine", name="libc6", version="2", digest=of_bytes(b"libc6")),)


def lock(
    pcr4: bytes, *, packages: tuple[Package, ...] = PACKAGES, snapshot: str | None = None
) -> bytes:
    return image_lock.emit(
        name="aicert-machine",
        disk=of_bytes(b"disk"),
        pcrs={4: pcr4, 11: bytes(32), 12: bytes(32), 13: bytes(32)},
        verity={"root": of_bytes(b"root")},
        packages=packages,
        snapshot=snapshot,
    )


EARLIER = "20251127T202100Z"
TRUE, FORGED = lock(b"\1" * 32), lock(b"\2" * 32)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout whose packages always build the image of the lock TRUE."""

    def build(where: Place, packages: tuple[Package, ...], *, snapshot: str | None) -> Image:
        assert (packages, snapshot) == (PACKAGES, None)
        return Image(folder=where.cache, disk=where.cache, tools=where.cache, lock=TRUE)

    monkeypatch.setenv("AICERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image_build, "build", build)
    monkeypatch.setattr(wheels, "unlike", lambda *_, **__: [])
    (tmp_path / LOCK).parent.mkdir()
    return tmp_path


def test_a_lock_that_its_packages_give_is_reproduced(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / LOCK).write_bytes(TRUE)
    tasks.reproduce(root)
    assert "reproduced: sha256:" in capfd.readouterr().err


def test_a_lock_that_says_something_else_is_not(root: Path) -> None:
    """The lock's author changed a PCR: the built lock replaces it, and the command fails."""
    (root / LOCK).write_bytes(FORGED)
    with pytest.raises(ToolError, match="does not match what its packages") as caught:
        tasks.reproduce(root)
    assert caught.value.hint == f"git diff {LOCK}"


def test_without_a_lock_there_is_nothing_to_reproduce(root: Path) -> None:
    with pytest.raises(ToolError, match="does not exist"):
        tasks.reproduce(root)


def test_an_image_with_other_python_packages_than_the_environments_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a lock that nobody moved would train without what a new environment has."""
    (root / LOCK).write_bytes(TRUE)
    names: list[str] = []
    monkeypatch.setattr(wheels, "unlike", lambda *_, **kinds: [] if any(kinds.values()) else names)
    tasks.ensure(root)
    assert "Python packages" not in capfd.readouterr().err
    names += [f"package-{number}" for number in range(10)]
    tasks.ensure(root)
    err = capfd.readouterr().err
    assert f"{LOCK} has other Python packages than this aicert's environments: package-0, " in err
    assert "package-7, 2 more\n" in err
    assert "hint: ./doit run image_update\n" in err
    del names[1:]
    tasks.ensure(root)
    assert "environments: package-0\n" in capfd.readouterr().err


def test_an_update_that_finds_the_same_packages_leaves_the_lock(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even the time stays: certificates name the lock by its digest."""
    (root / LOCK).write_bytes(lock(b"\1" * 32, snapshot=EARLIER))
    tried: list[str | None] = []

    def build(where: Place, packages: tuple[Package, ...], *, snapshot: str | None) -> Image:
        tried.append(snapshot)
        built = lock(b"\1" * 32, packages=packages, snapshot=snapshot)
        (where.cache / FIRMWARE).parent.mkdir(parents=True, exist_ok=True)
        (where.cache / FIRMWARE).write_bytes(b"firmware")
        return Image(folder=where.cache, disk=where.cache, tools=where.cache, lock=built)

    monkeypatch.setattr(image_build, "build", build)
    monkeypatch.setattr(resolve, "resolve", lambda where: PACKAGES)
    tasks.update(root)
    assert tried == [EARLIER]
    assert (root / LOCK).read_bytes() == lock(b"\1" * 32, snapshot=EARLIER)
    assert f"the mirrors have nothing newer than {LOCK}" in capfd.readouterr().err

    newer = (dataclasses.replace(PACKAGES[0], version="3"),)
    monkeypatch.setattr(resolve, "resolve", lambda where: newer)
    tasks.update(root)
    assert tried[1:] != [EARLIER]
    assert (root / LOCK).read_bytes() == lock(b"\1" * 32, packages=newer, snapshot=tried[1])
    assert f"{LOCK} changed: review the difference" in capfd.readouterr().err


def test_a_path_that_apt_cannot_read_is_named_before_anything_is_fetched(tmp_path: Path) -> None:
    cache = tmp_path / "with space"
    cache.mkdir()
    where = Place(root=tmp_path, cache=cache)
    with (
        pytest.raises(ConfigError, match="images cannot be built in") as caught,
        image_build.only_builder(where),
    ):
        pass
    assert caught.value.hint == "export AICERT_CACHE=/var/tmp/aicert"
    assert list(cache.iterdir()) == []
