"""Unpack the Python packages that the serving image has in addition to the base image.

The engine's environment is the training volume, with the very bytes that trained. The engine's
extra packages are in the root volume, in a folder of their own, and so are the packages for the
machine's TLS. The code that runs is in `enclave_runner`.
"""

from collections.abc import Sequence
from pathlib import Path

from aicert.formats.image_lock import Package
from rules.image import unpack as wheel
from rules.image.debian import Store

# Parts of the lock: packages for the engine, in addition to the training environment, and for the
# gateway, in addition to the runner's packages.
ENGINE, GATEWAY = "engine", "gateway"
PARTS = (ENGINE, GATEWAY)
# Folders in the root volume. `enclave_runner/serving/boot.py` shows the first one to the engine.
ENGINE_PLACE = Path("usr/lib/aicert-engine")
PLACES = {ENGINE: ENGINE_PLACE, GATEWAY: Path("usr/lib/python3/dist-packages")}


def unpack(store: Store, packages: Sequence[Package], target: Path) -> None:
    """Unpack the packages of both parts below `target`, at their paths in the machine."""
    for part, place in PLACES.items():
        (target / place).mkdir(parents=True)
        for package in packages:
            if package.part == part:
                wheel.unpack(package, store.get(package), target / place)
    wheel.settle(target)


def compiled(tree: Path) -> list[Path]:
    """Return the paths in the root volume that get byte code."""
    gateway = sorted((tree / PLACES[GATEWAY]).iterdir())
    return [ENGINE_PLACE, *(path.relative_to(tree) for path in gateway if _is_code(path))]


def _is_code(path: Path) -> bool:
    return path.suffix in ("", ".py")
