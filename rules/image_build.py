"""Build the machine's image: from locked packages to a disk, each layer only when its inputs
changed.

Each layer's place carries the digest of everything that it is made from, so a layer that is there
is the one that is wanted; a layer is put in its place only when it is whole. One builder at a time.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aicert import image_lock
from aicert.digest import Digest
from aicert.errors import ConfigError, ToolError
from aicert.image_lock import ImageLock, Package
from rules import (
    image_debian,
    image_disk,
    image_driver,
    image_layers,
    image_pcrs,
    image_trees,
    image_wheels,
    progress,
)
from rules.bootstrap import cache_directory
from rules.image_debian import Apt, Store
from rules.image_mkosi import Mkosi, unpack
from rules.image_store import Image
from rules.image_verity import Verity
from rules.work import remove

NAME = "aicert-machine"
LOCK = Path("lockfiles/image.lock.toml")
GPU_LOCK = Path("lockfiles/image-gpu.lock.toml")
TOOLS_RELEASE, MACHINE_RELEASE = "trixie", "bookworm"
KERNEL = "linux-image-cloud-amd64"
_TOOLS_PARTS, _MACHINE_PARTS = ("mkosi", "kernel", "tools"), ("build", "machine")
# How many of each layer stay: another checkout with the same cache may be about to use one.
_KEPT = {"image": 3, "training": 2, "machine": 2, "tools": 2, "driver": 2}
_WHEEL_PARTS = ("builder", "runner", "training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The checkout, and where images are made: big, and all of it can be made again.

    `gpu`: of the image with NVIDIA's driver and torch for CUDA (docs/adr/0012-gpu-image.md).
    """

    root: Path
    cache: Path
    makes: bool = True
    gpu: bool = False

    def has(self, layer: Path) -> bool:
        """Whether the layer is there; where it is not, it may be made, or there is a ToolError."""
        if not layer.is_dir() and not self.makes:
            raise ToolError("the image is not built", hint="./doit image")
        return layer.is_dir()

    @property
    def store(self) -> Store:
        """Packages by digest."""
        return Store(folder=self.cache / "store")

    @property
    def lock(self) -> Path:
        """The lock of the image that is made here, below `root`."""
        return GPU_LOCK if self.gpu else LOCK

    def apt(self, release: str) -> Apt:
        """apt for one release, with lists of its own."""
        return Apt(self.cache / f"apt-{release}", release)


def place(root: Path, *, gpu: bool = False) -> Place:
    """Where this checkout builds its images."""
    cache = cache_directory(root) / "image"
    cache.mkdir(parents=True, exist_ok=True)
    return Place(root=root.resolve(), cache=cache, gpu=gpu)


@contextmanager
def only_builder(where: Place) -> Iterator[None]:
    """Wait until nobody else builds in this cache. ConfigError where nobody could."""
    # The lists of apt, which reads packages from here, know no quoting that mkosi knows, too.
    if not re.fullmatch(r"[A-Za-z0-9/._+~-]+", str(where.cache)):
        raise ConfigError(
            f"images cannot be built in {str(where.cache)!a}: apt takes letters, digits and ._+~-",
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
    """While a machine runs, nobody removes what it runs from."""
    lock = os.open(where.cache / "running", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


@contextmanager
def umask() -> Iterator[None]:
    """What is made for an image has the same permissions whoever makes it."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def read_lock(root: Path, path: Path = LOCK) -> ImageLock | None:
    """The committed lock, if there is one."""
    try:
        return image_lock.parse((root / path).read_bytes())
    except FileNotFoundError:
        return None


def mkosi_of(where: Place, packages: Sequence[Package]) -> Mkosi:
    """The locked mkosi, unpacked."""
    package = next(package for package in packages if package.part == "mkosi")
    program = unpack(where.store.get(package), where.cache / f"mkosi-{package.digest.hex[:16]}")
    return Mkosi(program=program, work=where.cache / "mkosi-work")


@umask()
def build(where: Place, packages: tuple[Package, ...]) -> Image:
    """The image of these packages and of this checkout's code, with its lock's bytes.

    Raises ToolError where `where` makes nothing and a layer is missing.
    """
    parts = image_wheels.by_part(packages)
    wanted = {*_TOOLS_PARTS, *_MACHINE_PARTS, *_WHEEL_PARTS}
    absent = (wanted | set(image_driver.PARTS) if where.gpu else wanted) - set(parts)
    if absent:
        hint = image_driver.UPDATE if where.gpu else "./doit image_update"
        raise ToolError(f"the image lock has no package for: {', '.join(sorted(absent))}",
                        hint=hint)  # fmt: skip
    with _fetching_ahead(where, packages):
        tools = tools_tree(where, packages)
    machine = _machine_tree(where, tools, packages)
    return _image(where, tools, machine, packages)


@contextmanager
def _fetching_ahead(where: Place, packages: Sequence[Package]) -> Iterator[None]:
    """Fetch the machine's packages while its tools are built: one waits, the other computes."""

    def fetch() -> None:
        # What cannot be had is told where it is needed.
        with suppress(ToolError):
            _fetch_machine(where, packages)

    thread = threading.Thread(target=fetch, daemon=True)
    if where.makes and not any(where.cache.glob("machine-*")):
        thread.start()
    yield
    if thread.ident is not None:
        thread.join()


def _fetch_machine(where: Place, packages: Sequence[Package]) -> None:
    image_debian.fetch(where.store, where.apt(MACHINE_RELEASE), _of(packages, _MACHINE_PARTS))
    wheels = _of(packages, _WHEEL_PARTS)
    image_wheels.fetch(where.store, wheels, where.cache / "wheels-work")


def tools_tree(where: Place, packages: Sequence[Package]) -> Path:
    """The tools of these packages, built where they are not."""
    directory = where.root / "image" / "tools"
    used = _of(packages, _TOOLS_PARTS)
    target = where.cache / f"tools-{_key([*_files(directory), *map(str, used)])}"
    if not where.has(target):
        image_debian.fetch(where.store, where.apt(TOOLS_RELEASE), used)
        progress.say("building the tools tree")
        repository = where.cache / "repository"
        debs = _of(packages, ("tools",))
        image_debian.repository(where.store, debs, TOOLS_RELEASE, repository)
        fresh = where.cache / "tools.new"
        mkosi_of(where, packages).build(directory, fresh, repository=repository)
        fresh.rename(target)
        remove(repository)
    return target


def _machine_tree(where: Place, tools: Path, packages: Sequence[Package]) -> Path:
    directory = where.root / "image" / "machine"
    debs, wheels = _of(packages, _MACHINE_PARTS), _of(packages, _WHEEL_PARTS)
    facts = [tools.name, *_files(directory), *map(str, debs), *map(str, wheels)]
    target = where.cache / f"machine-{_key(facts)}"
    if not where.has(target):
        _fetch_machine(where, packages)
        progress.say("building the machine's tree and its Python environments (minutes)")
        repository, source = where.cache / "repository", where.cache / "source"
        image_debian.repository(where.store, debs, MACHINE_RELEASE, repository)
        remove(source)
        shutil.copytree(directory, source)
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


def _driver(where: Place, tools: Path, packages: Sequence[Package]) -> Path:
    directory = where.root / "image" / "driver"
    used = _of(packages, (*image_driver.PARTS, "kernel"))
    maker = where.root / "rules" / "image_driver.py"
    facts = [tools.name, *_files(directory), *_files(maker.parent, maker.name), *map(str, used)]
    target = where.cache / f"driver-{_key(facts)}"
    if not where.has(target):
        apt = where.apt(TOOLS_RELEASE)
        ours = _of(used, (image_driver.TREE, image_driver.HEADERS))
        image_debian.fetch(where.store, apt, ours)
        theirs = _of(used, (image_driver.DRIVER,))
        if any(where.store.find(package.digest) is None for package in theirs):
            apt.update()
            image_debian.fetch(where.store, image_driver.archive(where.cache, apt), theirs)
        fresh = where.cache / "driver.new"
        remove(fresh)
        mkosi = mkosi_of(where, packages)
        image_driver.build(where.store, used, mkosi, directory, tools, fresh)
        fresh.rename(target)
    return target


def _image(where: Place, tools: Path, machine: Path, packages: tuple[Package, ...]) -> Image:
    driver = _driver(where, tools, packages) if where.gpu else None
    training_image, training = _training_volume(where, tools, machine)
    code = [fact for name in image_trees.CODE_DIRECTORIES for fact in _files(where.root / name)]
    makers = _files(where.root / "rules", "image_*.py")
    kernel = next(package for package in packages if package.part == "kernel")
    listed = map(str, packages)
    key = _key([training_image.name, machine.name, str(kernel), *code, *makers, *listed])
    target = where.cache / f"image-{key}"
    if not where.has(target):
        progress.say("building the image")
        fresh = where.cache / "image.new"
        remove(fresh)
        fresh.mkdir()
        volume = (training_image, training)
        _make_image(where, fresh, tools, machine, kernel, driver, volume, packages)
        fresh.rename(target)
        used = {target, tools, machine, training_image.parent}
        _forget_old(where, used if driver is None else {*used, driver})
    return Image(
        folder=target,
        disk=target / "disk.raw",
        tools=tools,
        lock=(target / "lock.toml").read_bytes(),
    )


def _forget_old(where: Place, used: set[Path]) -> None:
    """Each change of the runner makes an image of some 2 GB. Where a machine runs, all stays."""
    lock = os.open(where.cache / "running", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for kind, kept in _KEPT.items():
            others = [path for path in where.cache.glob(f"{kind}-*") if path not in used]
            # A tree's own times are fixed; this one is that of its rename.
            others.sort(key=lambda path: path.stat().st_ctime)
            for path in others[: max(0, len(others) - kept + 1)]:
                remove(path)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _training_volume(where: Place, tools: Path, machine: Path) -> tuple[Path, Verity]:
    makers = [where.root / "rules" / f"image_{name}.py" for name in ("trees", "layers", "verity")]
    key = _key([machine.name, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in makers)])
    folder = where.cache / f"training-{key}"
    if not where.has(folder):
        progress.say("building the training volume")
        fresh = where.cache / "training.new"
        remove(fresh)
        fresh.mkdir()
        image_trees.stage_training(machine, fresh / "stage", gpu=where.gpu)
        (fresh / "manifest").write_text(image_trees.manifest(fresh / "stage"), encoding="utf-8")
        verity = image_layers.volume(tools, fresh / "stage", fresh / "training.img")
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
    training: tuple[Path, Verity],
    packages: tuple[Package, ...],
) -> None:
    work = target / "work"
    work.mkdir()
    package = where.store.get(kernel_package)
    tree = unpack(package, where.cache / f"kernel-{kernel_package.digest.hex[:16]}")
    image_trees.stage_root(machine, where.root, work / "stage", driver and driver / "root")
    image_trees.compile_code(work / "stage")
    listed = image_trees.manifest(work / "stage")
    (target / "root.manifest").write_text(listed, encoding="utf-8")
    shutil.copy(training[0].with_name("manifest"), target / "training.manifest")
    root = image_layers.volume(tools, work / "stage", work / "root.img")
    uki = target / "uki.efi"
    image_layers.unified_kernel(
        tools,
        image_layers.read_kernel(tree, driver and driver / "modules"),
        (machine / "aicert-init").read_bytes(),
        image_layers.command_line(root, training[1], gpu=where.gpu),
        work,
        uki,
    )
    image_disk.system_partition(tools, uki, work / "esp.img")
    parts = [("esp", work / "esp.img"), ("root", work / "root.img"), ("training", training[0])]
    image_disk.assemble(parts, target / "disk.raw")
    with (target / "disk.raw").open("rb") as file:
        digest = Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
    lock = image_lock.emit(
        name=f"{NAME}-gpu" if where.gpu else NAME,
        disk=digest,
        pcrs=image_pcrs.predict(uki.read_bytes()),
        verity={"root": root.root, "training": training[1].root},
        packages=packages,
    )
    (target / "lock.toml").write_bytes(lock)
    remove(work)


def _of(packages: Sequence[Package], parts: Sequence[str]) -> list[Package]:
    return [package for package in packages if package.part in parts]


def _files(folder: Path, pattern: str = "**/*") -> list[str]:
    """Name and digest of each file, for keys; byte code left out."""
    return [
        f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.glob(pattern))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def _key(facts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
