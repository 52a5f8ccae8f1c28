"""Build the machine's image from locked packages, each layer only if its inputs changed.

The name of each layer's folder has the digest of everything that the layer is made from, so a
folder with the right name is the right layer; a layer gets its name only when it is complete. Only
one builder runs at a time.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aicert.errors import ConfigError, ToolError
from aicert.formats import image_lock
from aicert.formats.digest import Digest
from aicert.formats.image_lock import Package
from rules.host.work import remove
from rules.image import (
    cache_key,
    debian,
    disk,
    gpu_driver,
    layers,
    pcrs,
    progress,
    serving,
    sources,
    trees,
)
from rules.image import (
    makers as image_makers,
)
from rules.image import (
    tools as tools_image,
)
from rules.image import (
    wheels as image_wheels,
)
from rules.image.mkosi import Mkosi, unpack
from rules.image.place import (
    GPU_LOCK,
    KERNEL,
    LOCK,
    MACHINE_RELEASE,
    SERVE_LOCK,
    TOOLS_RELEASE,
    Place,
    place,
    read_lock,
)
from rules.image.store import Image
from rules.image.verity import Verity

# Names for those who build or boot images.
__all__ = [
    "GPU_LOCK",
    "KERNEL",
    "LOCK",
    "MACHINE_RELEASE",
    "SERVE_LOCK",
    "TOOLS_RELEASE",
    "Locked",
    "Place",
    "adopt_tools",
    "build",
    "in_use",
    "mkosi_of",
    "only_builder",
    "place",
    "read_lock",
    "settled_tools",
    "tools_tree",
    "umask",
]  # fmt: skip

NAME = "aicert-machine"
_TOOLS_PARTS, _MACHINE_PARTS = ("mkosi", "tools"), ("build", "machine")
# The number of layers of each kind that are kept: another checkout that shares the cache may be
# about to use one.
_KEPT = {"image": 4, "training": 2, "machine": 2, "tools": 2, "driver": 2, "serving": 2,
         "trainers": 2}  # fmt: skip
_WHEEL_PARTS = ("builder", "runner", "training")


@contextmanager
def only_builder(where: Place) -> Iterator[None]:
    """Wait until nobody else builds in this cache. Raises ConfigError if nobody can."""
    # apt reads packages from here, and no quoting works in both apt's lists and mkosi.
    if not re.fullmatch(r"[A-Za-z0-9/._+~-]+", str(where.cache)):
        raise ConfigError(
            f"images cannot be built in {str(where.cache)!a}: apt accepts only letters, "
            "digits and ._+~-",
            hint="export AICERT_CACHE=/var/tmp/aicert",
        )
    lock = os.open(where.cache / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def in_use(where: Place) -> Iterator[None]:
    """Keep images from being removed while a machine runs."""
    lock = os.open(where.cache / "running", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


@contextmanager
def umask() -> Iterator[None]:
    """Set a fixed umask, so that files for an image have the same permissions for every user."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def mkosi_of(where: Place, packages: Sequence[Package]) -> Mkosi:
    """Unpack the locked mkosi, and return it."""
    package = next(package for package in packages if package.part == "mkosi")
    program = unpack(where.store.get(package), where.cache / f"mkosi-{package.digest.hex[:16]}")
    return Mkosi(program=program, work=where.cache / "mkosi-work")


@umask()
def build(where: Place, packages: tuple[Package, ...], *, snapshot: str | None = None) -> Image:
    """Build the image of these packages and of this checkout's code.

    `snapshot`: the time of the packages in the lock. Tools that are no longer available are
    replaced, and the image records that. Raises ToolError if `where` may not build anything and a
    layer is missing.
    """
    parts = image_wheels.by_part(packages)
    wanted = {"kernel", *_TOOLS_PARTS, *_MACHINE_PARTS, *_WHEEL_PARTS}
    wanted |= set(_parts_beside(where))
    absent = wanted - set(parts)
    if absent:
        kind = where.lock.name.removesuffix(".lock.toml").replace("-", "_")
        raise ToolError(
            f"the image lock has no package for: {', '.join(sorted(absent))}",
            hint="./doit image_update" if kind == "image" else f"./doit run {kind}_update",
        )
    with _fetching_ahead(where, packages):
        used = settled_tools(where, packages)
        tools = tools_tree(where, used)
    used = image_makers.settle(
        where,
        used,
        image_makers.BUILDERS,
        partial(where.apt, MACHINE_RELEASE),
        lambda folder: _machine_target(where, tools, folder).is_dir(),
    )
    try:
        machine = _machine_tree(where, tools, used)
        return _image(where, tools, machine, used, Locked(packages=packages, snapshot=snapshot))
    except ToolError as error:
        raise image_makers.explained(error, image_makers.replaced(packages, used)) from None


def _parts_beside(where: Place) -> tuple[str, ...]:
    """Return the parts of this image that not every image has."""
    if where.serve:
        return serving.PARTS
    if where.tools:
        return tools_image.PARTS
    return gpu_driver.PARTS if where.gpu else ()


def settled_tools(where: Place, packages: tuple[Package, ...]) -> tuple[Package, ...]:
    """Get the tools into the store, and return `packages` with their replacements, if any."""
    return image_makers.settle(
        where,
        packages,
        image_makers.TOOLS,
        partial(where.apt, TOOLS_RELEASE),
        lambda packages_used: _tools_target(where, packages_used).is_dir(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """The packages that an image's lock names, whatever tools the image was built with."""

    packages: tuple[Package, ...]
    snapshot: str | None = None


@contextmanager
def _fetching_ahead(where: Place, packages: Sequence[Package]) -> Iterator[None]:
    """Fetch the machine's packages while its tools are built.

    Fetching waits for the network while building computes.
    """

    def fetch() -> None:
        # A failure is reported where the package is needed.
        with suppress(ToolError):
            _fetch_machine(where, packages)

    thread = threading.Thread(target=fetch, daemon=True)
    if where.makes and not any(where.cache.glob("machine-*")):
        thread.start()
    yield
    if thread.ident is not None:
        thread.join()


def _fetch_machine(where: Place, packages: Sequence[Package]) -> None:
    """Fetch the packages that are in the machine. None of these is ever replaced."""
    sources.debian(where, where.apt(MACHINE_RELEASE), _of(packages, ("machine",)))
    sources.wheels(where, _of(packages, ("runner", "training")))


def _fetch_kernel(where: Place, packages: Sequence[Package]) -> None:
    kept = [each for each in packages if each.part == "kernel" or each.name in image_makers.KEPT]
    sources.debian(where, where.apt(TOOLS_RELEASE), kept)


def _tools_target(where: Place, packages: Sequence[Package]) -> Path:
    facts = cache_key.file_facts(where.code / "image" / "tools")
    facts += map(str, _of(packages, _TOOLS_PARTS))
    return where.cache / f"tools-{cache_key.key(facts)}"


def tools_tree(where: Place, packages: Sequence[Package]) -> Path:
    """Return the tools tree of these packages; build it if it is missing."""
    target = _tools_target(where, packages)
    if not where.has(target):
        _fetch_kernel(where, packages)
        progress.begin("building the tools tree")
        repository = where.cache / "repository"
        debs = _of(packages, ("tools",))
        debian.repository(where.store, debs, TOOLS_RELEASE, repository)
        fresh = where.cache / "tools.new"
        directory = where.code / "image" / "tools"
        mkosi_of(where, packages).build(directory, fresh, repository=repository)
        fresh.rename(target)
        remove(repository)
    return target


def adopt_tools(where: Place, packages: Sequence[Package], tree: Path) -> None:
    """Use a tree built from these packages as their layer."""
    target = _tools_target(where, packages)
    if not target.is_dir():
        tree.rename(target)


def _machine_target(where: Place, tools: Path, packages: Sequence[Package]) -> Path:
    directory = where.code / "image" / "machine"
    debs, wheels = _of(packages, _MACHINE_PARTS), _of(packages, _WHEEL_PARTS)
    hardening = where.code / trees.HARDENING
    facts = [tools.name, *cache_key.file_facts(directory)]
    facts += cache_key.file_facts(hardening.parent, hardening.name)
    if where.gpu:
        facts += cache_key.file_facts(where.code / trees.KERNELS.parent, trees.KERNELS.name)
    facts += [*map(str, debs), *map(str, wheels)]
    return where.cache / f"machine-{cache_key.key(facts)}"


def _machine_tree(where: Place, tools: Path, packages: Sequence[Package]) -> Path:
    target = _machine_target(where, tools, packages)
    if not where.has(target):
        _fetch_machine(where, packages)
        progress.begin("building the machine's tree and its Python environments")
        repository, source = where.cache / "repository", where.cache / "source"
        debs = _of(packages, _MACHINE_PARTS)
        debian.repository(where.store, debs, MACHINE_RELEASE, repository)
        remove(source)
        shutil.copytree(where.code / "image" / "machine", source)
        hardening = where.code / trees.HARDENING
        shutil.copyfile(hardening, source / hardening.name)
        if where.gpu:
            # mkosi runs the scripts in this folder after mkosi.build.chroot.
            (source / "mkosi.build.d").mkdir()
            shutil.copy(where.code / trees.KERNELS, source / "mkosi.build.d")
        for name in _WHEEL_PARTS:
            own = _of(packages, (name,))
            text = image_wheels.place(where.store, own, source / "wheels" / name)
            (source / f"{name}.lock").write_text(text, encoding="ascii")
        fresh = where.cache / "machine.new"
        mkosi_of(where, packages).build(source, fresh, repository=repository, tools=tools)
        fresh.rename(target)
        remove(repository)
        remove(source)
    return target


def _driver_target(where: Place, tools: Path, packages: Sequence[Package]) -> Path:
    directory, maker = where.code / "image/driver", where.code / "rules/image/gpu_driver.py"
    used = _of(packages, (*gpu_driver.PARTS, "kernel"))
    facts = [tools.name, *cache_key.file_facts(directory)]
    facts += cache_key.file_facts(maker.parent, maker.name)
    facts += map(str, used)
    return where.cache / f"driver-{cache_key.key(facts)}"


def _driver(where: Place, tools: Path, packages: tuple[Package, ...]) -> Path:
    apt = partial(where.apt, TOOLS_RELEASE)
    packages = image_makers.settle(
        where,
        packages,
        image_makers.COMPILER,
        apt,
        lambda folder: _driver_target(where, tools, folder).is_dir(),
    )
    target = _driver_target(where, tools, packages)
    if not where.has(target):
        sources.debian(where, apt(), _of(packages, (gpu_driver.HEADERS,)))
        theirs = _of(packages, (gpu_driver.DRIVER,))
        if any(where.store.find(package.digest) is None for package in theirs):
            apt().update()
            ubuntu = gpu_driver.archive(where.cache, apt())
            sources.debian(where, ubuntu, theirs, archived=False)
        fresh = where.cache / "driver.new"
        remove(fresh)
        mkosi = mkosi_of(where, packages)
        used = _of(packages, (*gpu_driver.PARTS, "kernel"))
        directory = where.code / "image" / "driver"
        gpu_driver.build(where.store, used, mkosi, directory, tools, fresh)
        fresh.rename(target)
    return target


def _beside(where: Place, packages: tuple[Package, ...]) -> Path | None:
    """Return the unpacked packages that this image has besides the training environment."""
    if not (where.serve or where.tools):
        return None
    kind, unpack = (
        ("serving", serving.unpack) if where.serve else ("trainers", tools_image.unpack_all)
    )
    used = _of(packages, _parts_beside(where))
    makers = ("serving.py" if where.serve else "tools.py", "unpack.py")
    folder = where.code / "rules" / "image"
    facts = [fact for name in makers for fact in cache_key.file_facts(folder, name)]
    facts += cache_key.file_facts(where.code / "rules" / "host", "tool_envs.py")
    target = where.cache / f"{kind}-{cache_key.key([*facts, *map(str, used)])}"
    if not where.has(target):
        sources.wheels(where, used)
        fresh = where.cache / f"{kind}.new"
        remove(fresh)
        unpack(where.store, used, fresh)
        fresh.rename(target)
    return target


def _image(
    where: Place, tools: Path, machine: Path, packages: tuple[Package, ...], locked: Locked
) -> Image:
    driver = _driver(where, tools, packages) if where.gpu else None
    beside = driver / "root" if driver is not None else _beside(where, packages)
    training_image, training = _training_volume(where, tools, machine)
    code = cache_key.code_facts(where.code, where.own_code)
    makers = cache_key.file_facts(where.code / "rules" / "image", "*.py")
    kernel = next(package for package in packages if package.part == "kernel")
    listed = map(str, locked.packages)
    facts = [training_image.name, machine.name, str(kernel), locked.snapshot or ""]
    key = cache_key.key([*facts, *code, *makers, *listed])
    target = where.cache / f"image-{key}"
    if not where.has(target):
        _fetch_kernel(where, packages)
        progress.begin("building the image")
        fresh = where.cache / "image.new"
        remove(fresh)
        fresh.mkdir()
        volume = (training_image, training)
        _make_image(where, fresh, tools, machine, kernel, driver, beside, volume, locked)
        fresh.rename(target)
        used = {target, tools, machine, training_image.parent}
        used |= {layer for layer in (driver, beside) if layer is not None}
        _forget_old(where, used)
    return Image(
        folder=target,
        disk=target / "disk.raw",
        tools=tools,
        lock=(target / "lock.toml").read_bytes(),
        replaced=image_makers.replaced(locked.packages, packages),
    )


def _forget_old(where: Place, used: set[Path]) -> None:
    """Delete old layers, unless a machine runs: each change to the runner makes a 2 GB image."""
    lock = os.open(where.cache / "running", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for kind, kept in _KEPT.items():
            others = [path for path in where.cache.glob(f"{kind}-*") if path not in used]
            # The times inside a tree are fixed; st_ctime is the time when it was renamed.
            others.sort(key=lambda path: path.stat().st_ctime)
            for path in others[: max(0, len(others) - kept + 1)]:
                remove(path)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _training_volume(where: Place, tools: Path, machine: Path) -> tuple[Path, Verity]:
    folder = where.code / "rules" / "image"
    names = ("trees", "layers", "verity")
    makers = [fact for name in names for fact in cache_key.file_facts(folder, f"{name}.py")]
    key = cache_key.key([machine.name, *makers])
    folder = where.cache / f"training-{key}"
    if not where.has(folder):
        progress.begin("building the training volume")
        fresh = where.cache / "training.new"
        remove(fresh)
        fresh.mkdir()
        trees.stage_training(machine, fresh / "stage", gpu=where.gpu)
        (fresh / "manifest").write_text(trees.manifest(fresh / "stage"), encoding="utf-8")
        verity = layers.volume(tools, fresh / "stage", fresh / "training.img")
        remove(fresh / "stage")
        facts = json.dumps({"root": str(verity.root), "blocks": verity.blocks})
        (fresh / "facts.json").write_text(facts, encoding="ascii")
        fresh.rename(folder)
    facts = json.loads((folder / "facts.json").read_text(encoding="ascii"))
    verity = Verity(root=Digest.parse(facts["root"]), blocks=facts["blocks"])
    return folder / "training.img", verity


def _make_image(
    where: Place,
    target: Path,
    tools: Path,
    machine: Path,
    kernel_package: Package,
    driver: Path | None,
    beside: Path | None,
    training: tuple[Path, Verity],
    locked: Locked,
) -> None:
    work = target / "work"
    work.mkdir()
    package = where.store.get(kernel_package)
    tree = unpack(package, where.cache / f"kernel-{kernel_package.digest.hex[:16]}")
    more = [beside] if beside is not None else []
    trees.stage_root(machine, where.code, work / "stage", more, where.own_code)
    trees.compile_code(work / "stage", _compiled(where, beside))
    listed = trees.manifest(work / "stage")
    (target / "root.manifest").write_text(listed, encoding="utf-8")
    shutil.copy(training[0].with_name("manifest"), target / "training.manifest")
    stub = _stub(where, locked.packages)
    root = layers.volume(tools, work / "stage", work / "root.img")
    uki = target / "uki.efi"
    layers.unified_kernel(
        tools,
        layers.read_kernel(tree, driver and driver / "modules", network=where.serve),
        stub,
        (machine / ("aicert-init-serve" if where.serve else "aicert-init")).read_bytes(),
        layers.command_line(root, training[1], gpu=where.gpu, serve=where.serve),
        work,
        uki,
    )
    disk.system_partition(tools, uki, work / "esp.img")
    parts = [("esp", work / "esp.img"), ("root", work / "root.img"), ("training", training[0])]
    disk.assemble(parts, target / "disk.raw")
    with (target / "disk.raw").open("rb") as file:
        digest = Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
    lock = image_lock.emit(
        name=where.lock.name.removesuffix(".lock.toml").replace("image", NAME),
        disk=digest,
        pcrs=pcrs.predict(uki.read_bytes()),
        verity={"root": root.root, "training": training[1].root},
        packages=locked.packages,
        snapshot=locked.snapshot,
    )
    (target / "lock.toml").write_bytes(lock)
    remove(work)


def _compiled(where: Place, beside: Path | None) -> Sequence[Path]:
    """Return the folders of packages beside the base image's that get byte code."""
    if where.serve and beside is not None:
        return serving.compiled(beside)
    return [tools_image.PLACE] if where.tools else []


def _stub(where: Place, packages: Sequence[Package]) -> Path:
    """Return systemd's stub from the locked package, as it is part of the machine.

    The tools may have been replaced by other versions.
    """
    (package,) = (each for each in packages if each.name == image_makers.STUB_PACKAGE)
    tree = unpack(where.store.get(package), where.cache / f"stub-{package.digest.hex[:16]}")
    return tree / layers.STUB


def _of(packages: Sequence[Package], parts: Sequence[str]) -> list[Package]:
    return [package for package in packages if package.part in parts]
