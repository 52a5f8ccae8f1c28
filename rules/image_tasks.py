"""`./doit image`, `image_update`, `image_reproduce`."""

import difflib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from aicert import image_lock
from aicert.errors import ToolError
from rules import image_build, progress
from rules.image_build import LOCK, Place
from rules.image_store import Image

ROOT = Path(__file__).resolve().parents[1]
Task = dict[str, Any]


def task_image() -> Task:
    """build the measured machine's image from the locked packages; predict its PCRs"""
    return {"actions": [partial(_done, ensure, ROOT)], "uptodate": [False]}


def task_image_update() -> Task:
    """move lockfiles/image.lock.toml to what the mirrors have today, and build that"""
    return {"actions": [partial(_done, update, ROOT)], "uptodate": [False]}


def task_image_reproduce() -> Task:
    """build the image from nothing in another place and compare, file by file where it differs"""
    return {"actions": [partial(_done, reproduce, ROOT)], "uptodate": [False]}


def ensure(root: Path) -> Image:
    """The image of this checkout, built where an input changed; its lock is written."""
    where = image_build.place(root)
    with image_build.only_builder(where):
        lock = image_build.read_lock(root)
        if lock is None or not lock.packages:
            progress.say(f"{LOCK} does not exist: locking what the mirrors have today")
            packages = image_build.resolve(where)
        else:
            packages = lock.packages
        image = image_build.build(where, packages)
        _write(root, image)
    return image


def is_current(root: Path) -> bool:
    """Whether the image of this checkout is built and is what its lock says. Nothing is made."""
    lock = image_build.read_lock(root)
    if lock is None:
        return False
    where = replace(image_build.place(root), makes=False)
    return image_build.build(where, lock.packages).lock == (root / LOCK).read_bytes()


def update(root: Path) -> None:
    """Lock and build what the mirrors have today."""
    where = image_build.place(root)
    with image_build.only_builder(where):
        _write(root, image_build.build(where, image_build.resolve(where)))


def reproduce(root: Path) -> None:
    """Build from nothing but the locked bytes; ToolError says what differs.

    The lock as it was found counts: `ensure` writes what was built, whatever stood there before.
    """
    path = root / LOCK
    if not path.exists():
        raise ToolError(f"{LOCK} does not exist", hint="./doit image")
    locked = path.read_bytes()
    image = ensure(root)
    if image.lock != locked:
        raise ToolError(
            f"{LOCK} is not the lock of what its packages and this code give",
            hint=f"git diff {LOCK}",
        )
    where, lock = image_build.place(root), image_lock.parse(locked)
    with tempfile.TemporaryDirectory(dir=where.cache, prefix="reproduce-") as name:
        # The same locked bytes; everything made from them is made again.
        (Path(name) / "store").symlink_to(where.cache / "store")
        again = image_build.build(Place(root=where.root, cache=Path(name)), lock.packages)
        if again.lock == image.lock:
            progress.say(f"reproduced: {lock.disk}")
            return
        raise ToolError(
            "\n".join(["the image differs when it is built again", *_compare(image, again)])
        )


def _compare(one: Image, other: Image) -> Iterator[str]:
    for name in ("root.manifest", "training.manifest", "lock.toml"):
        before, after = (
            (image.folder / name).read_text("utf-8").splitlines() for image in (one, other)
        )
        lines = difflib.unified_diff(before, after, name, f"{name} again", n=0, lineterm="")
        yield from list(lines)[:40]


def _write(root: Path, image: Image) -> None:
    path = root / LOCK
    if not path.exists() or path.read_bytes() != image.lock:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(image.lock)
        progress.say(f"{LOCK} changed: review the difference")


def _done(function: Any, *args: Any) -> None:
    """Call and drop the result: doit takes False for a failure."""
    function(*args)
