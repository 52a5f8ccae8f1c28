"""`./doit image`, `image_update`, `image_reproduce`, and the same for the other images."""

import difflib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from aicert.errors import ToolError
from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from aicert.formats.image_lock import Package
from aicert.trust import ovmf
from rules.host import progress
from rules.host.places import PROJECT
from rules.image import build, changed_packages, makers, resolve, sources, wheels
from rules.image import progress as image_progress
from rules.image.build import Place
from rules.image.store import FIRMWARE, Image
from rules.project.images import LIST

Task = dict[str, Any]
# The number of packages that a warning names.
_SHOWN = 8


def task_image() -> Task:
    """build the measured machine's image from the locked packages; predict its PCRs"""
    return {"actions": [partial(_done, ensure, PROJECT)], "uptodate": [False]}


def task_image_update() -> Task:
    """lock the packages that the mirrors have today in image.lock.toml, and build that image"""
    return {"actions": [partial(_done, update, PROJECT)], "uptodate": [False]}


def task_image_reproduce() -> Task:
    """rebuild the image from scratch in another folder and compare, file by file if it differs"""
    return {"actions": [partial(_done, reproduce, PROJECT)], "uptodate": [False]}


def task_image_gpu() -> Task:
    """build the GPU image, with NVIDIA's driver and torch for CUDA (20 GB, half an hour)"""
    return {"actions": [partial(_done, ensure, PROJECT, gpu=True)], "uptodate": [False]}


def task_image_gpu_update() -> Task:
    """lock the GPU image again, from image.lock.toml and today's driver, and build it"""
    return {"actions": [partial(_done, update, PROJECT, gpu=True)], "uptodate": [False]}


def task_image_gpu_reproduce() -> Task:
    """rebuild the GPU image from scratch in another folder and compare"""
    return {"actions": [partial(_done, reproduce, PROJECT, gpu=True)], "uptodate": [False]}


def task_image_serve() -> Task:
    """build the serving image, for machines that serve leased models"""
    return {"actions": [partial(_done, ensure, PROJECT, serve=True)], "uptodate": [False]}


def task_image_serve_update() -> Task:
    """lock the serving image again, from image.lock.toml and the engine's lock, and build it"""
    return {"actions": [partial(_done, update, PROJECT, serve=True)], "uptodate": [False]}


def task_image_serve_reproduce() -> Task:
    """rebuild the serving image from scratch in another folder and compare"""
    return {"actions": [partial(_done, reproduce, PROJECT, serve=True)], "uptodate": [False]}


def task_image_tools() -> Task:
    """build the tools image, which holds trainers' own packages"""
    return {"actions": [partial(_done, ensure, PROJECT, tools=True)], "uptodate": [False]}


def task_image_tools_update() -> Task:
    """lock the tools image again, from image.lock.toml and the trainers' locks, and build it"""
    return {"actions": [partial(_done, update, PROJECT, tools=True)], "uptodate": [False]}


def task_image_tools_reproduce() -> Task:
    """rebuild the tools image from scratch in another folder and compare"""
    return {"actions": [partial(_done, reproduce, PROJECT, tools=True)], "uptodate": [False]}


def ensure(root: Path, *, gpu: bool = False, serve: bool = False, tools: bool = False) -> Image:
    """Return the image of this checkout, rebuilt if its inputs changed, and write its lock."""
    where = build.place(root, gpu=gpu, serve=serve, tools=tools)
    with build.only_builder(where):
        lock = build.read_lock(root, where.lock)
        if lock is None or not lock.packages:
            progress.say(f"{where.lock} does not exist: locking what the mirrors have today")
            _update(where)
        else:
            _say_if_unlike(where, lock.packages)
        with image_progress.whole("building the image", image_progress.BUILDING):
            image = _build(where)
        _write(where, image)
    return image


def _say_if_unlike(where: Place, packages: tuple[Package, ...]) -> None:
    """Warn if the machine has other Python packages than this code: a config that `lock` accepts
    could fail there, and a run on `local` could train something else.
    """
    names = wheels.unlike(where.code, packages, gpu=where.gpu, serve=where.serve, tools=where.tools)
    if not names:
        return
    kind = where.lock.name.removesuffix(".lock.toml").replace("-", "_")
    rest = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    progress.say(
        f"{where.lock} has other Python packages than this aicert's environments: "
        + ", ".join([*names[:_SHOWN], *rest])
    )
    progress.say(f"hint: ./doit run {kind}_update")


def _build(where: Place) -> Image:
    """Build the image of the current lock, and report whether replaced tools made a difference."""
    data = (where.root / where.lock).read_bytes()
    lock = image_lock.parse(data)
    image = build.build(where, lock.packages, snapshot=lock.snapshot)
    makers.judge(image.replaced, data, image.lock, where.lock)
    return image


def _resolve(where: Place) -> tuple[Package, ...]:
    if where.serve:
        return resolve.resolve_besides(where, wheels.wanted_serve(where.code))
    if where.tools:
        return resolve.resolve_besides(where, wheels.wanted_tools(where.code))
    return resolve.resolve_gpu(where) if where.gpu else resolve.resolve(where)


def is_current(root: Path, *, gpu: bool = False, tools: bool = False) -> bool:
    """Return whether this checkout's image is built and matches its lock; build nothing."""
    where = replace(build.place(root, gpu=gpu, tools=tools), makes=False)
    lock = build.read_lock(root, where.lock)
    if lock is None:
        return False
    built = build.build(where, lock.packages, snapshot=lock.snapshot)
    return built.lock == (root / where.lock).read_bytes()


def update(root: Path, *, gpu: bool = False, serve: bool = False, tools: bool = False) -> None:
    """Lock and build what the mirrors have today."""
    where = build.place(root, gpu=gpu, serve=serve, tools=tools)
    with build.only_builder(where):
        _update(where)


def _update(where: Place) -> None:
    now = sources.now()
    before = build.read_lock(where.root, where.lock)
    tables = (image_progress.FINDING, image_progress.BUILDING)
    with image_progress.whole("updating the image's lock", *tables):
        packages = _resolve(where)
        # The same packages keep their time, because certificates name the lock by its digest.
        same = before is not None and before.packages == packages
        snapshot = before.snapshot if before is not None and same else now
        image = build.build(where, packages, snapshot=snapshot)
    if same:
        progress.say(f"the mirrors have nothing newer than {where.lock}")
    _write(where, image)
    _say_if_unknown(image)


def _say_if_unknown(image: Image) -> None:
    """Warn about a new build of OVMF, which measures values that are not recorded yet."""
    firmware = hashlib.sha256((image.tools / FIRMWARE).read_bytes()).hexdigest()
    if firmware not in ovmf.BUILDS:
        progress.say(
            f"its firmware is a new build, {firmware}: boot.firmware fails until its values, from "
            "a boot, are in aicert/trust/ovmf.py"
        )


def reproduce(root: Path, *, gpu: bool = False, serve: bool = False, tools: bool = False) -> None:
    """Rebuild from nothing but the locked bytes. The ToolError says what differs.

    The committed lock counts, because `ensure` overwrites it with what was built.
    """
    where = build.place(root, gpu=gpu, serve=serve, tools=tools)
    path = root / where.lock
    if not path.exists():
        raise ToolError(f"{where.lock} does not exist", hint="./doit image")
    locked = path.read_bytes()
    image = ensure(root, gpu=gpu, serve=serve, tools=tools)
    if image.lock != locked:
        raise ToolError(
            f"{where.lock} does not match what its packages and this code give",
            hint=f"git diff {where.lock}",
        )
    lock = image_lock.parse(locked)
    with tempfile.TemporaryDirectory(dir=where.cache, prefix="reproduce-") as name:
        # The same locked bytes, but everything made from them is made again.
        (Path(name) / "store").symlink_to(where.cache / "store")
        again = build.build(replace(where, cache=Path(name)), lock.packages, snapshot=lock.snapshot)
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


def _write(where: Place, image: Image) -> None:
    path = where.root / where.lock
    before = path.read_bytes() if path.exists() else None
    if before == image.lock:
        return
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(image.lock)
    progress.say(f"{where.lock} changed: review the difference")
    if before is not None:
        progress.say(f"certificates of {of_bytes(before)} stay accepted if {LIST} lists it")
    for line in changed_packages.changed_packages(before, image.lock):
        progress.say(f"  {line}")


def _done(function: Any, *args: Any, **options: Any) -> None:
    """Call a function and drop its result, because doit takes False for a failure."""
    function(*args, **options)
