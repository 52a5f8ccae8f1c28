"""The folders in which a repository's images are built, and the locks that they are built from."""

from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from aicert.files.machine_code import MACHINE_CODE, SERVING_CODE
from aicert.formats import image_lock
from aicert.formats.image_lock import ImageLock
from rules.host import room
from rules.host.bootstrap import cache_directory
from rules.host.places import code_of
from rules.image.debian import Apt, Store

LOCK = Path("lockfiles/image.lock.toml")
GPU_LOCK = Path("lockfiles/image-gpu.lock.toml")
SERVE_LOCK = Path("lockfiles/image-serve.lock.toml")
TRAINERS_LOCK = Path("lockfiles/image-tools.lock.toml")
LOCKS = (LOCK, GPU_LOCK, SERVE_LOCK, TRAINERS_LOCK)
TOOLS_RELEASE, MACHINE_RELEASE = "trixie", "bookworm"
KERNEL = "linux-image-cloud-amd64"
# What making a layer takes, and of the GPU image: more than the layer has afterwards.
_SIZES = {
    "image": (2 * room.GB, 6 * room.GB),
    "machine": (4 * room.GB, 8 * room.GB),
    "training": (2 * room.GB, 6 * room.GB),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The repository, and the folder for its images, which is large but can be recreated.

    `gpu`: for the GPU image (docs/adr/0012-gpu-image.md).
    `serve`: for the serving image (docs/adr/0044-serving-image.md).
    `tools`: for the tools image (docs/adr/0055-tools.md).
    """

    root: Path
    cache: Path
    makes: bool = True
    gpu: bool = False
    serve: bool = False
    tools: bool = False

    def has(self, layer: Path) -> bool:
        """Return whether the layer exists.

        ToolError if it does not and may not be made, or if there is no room for it.
        """
        if layer.is_dir():
            return True
        if not self.makes:
            raise ToolError("the image is not built", hint="./doit image")
        kind = layer.name.partition("-")[0]
        small, large = _SIZES.get(kind, (room.GB, room.GB))
        room.require(self.cache, large if self.gpu else small, f"layer {kind} of the image")
        return False

    @property
    def code(self) -> Path:
        """The folder with the sources of images: the machine's code, and `image/`."""
        return code_of(self.root)

    @property
    def store(self) -> Store:
        """The store of packages by digest."""
        return Store(folder=self.cache / "store")

    @property
    def lock(self) -> Path:
        """The lock of this image, relative to `root`."""
        return SERVE_LOCK if self.serve else lock_of(gpu=self.gpu, tools=self.tools)

    @property
    def own_code(self) -> tuple[str, ...]:
        """The code of this project that runs in the machine, as entries of `machine_code`."""
        return SERVING_CODE if self.serve else MACHINE_CODE

    def apt(self, release: str) -> Apt:
        """Make an apt for one release, with lists of its own."""
        return Apt(self.cache / f"apt-{release}", release)


def lock_of(*, gpu: bool, tools: bool) -> Path:
    """Return the lock of the image that a machine for training boots, relative to the root."""
    if tools:
        return TRAINERS_LOCK
    return GPU_LOCK if gpu else LOCK


def place(root: Path, *, gpu: bool = False, serve: bool = False, tools: bool = False) -> Place:
    """Return the place where this checkout builds its images."""
    cache = cache_directory(root) / "image"
    cache.mkdir(parents=True, exist_ok=True)
    return Place(root=root.resolve(), cache=cache, gpu=gpu, serve=serve, tools=tools)


def read_lock(root: Path, path: Path = LOCK) -> ImageLock | None:
    """Read the committed lock; None if there is none."""
    try:
        return image_lock.parse((root / path).read_bytes())
    except FileNotFoundError:
        return None
