"""Unpack the Python packages that the serving image has in addition to the base image.

The engine's environment is the training volume, with the very bytes that trained. The engine's
extra packages are in the root volume, in a folder of their own, and so are the packages for the
machine's TLS. A wheel is an archive of files at their final paths (binary distribution format,
"File contents"); none of these has scripts, so nothing needs to be installed. The code that runs is
in `enclave_runner`.
"""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from aicert.errors import ToolError
from aicert.formats.image_lock import Package
from aicert.formats.paths import check_path
from rules.image.debian import Store

# Parts of the lock: packages for the engine, in addition to the training environment, and for the
# gateway, in addition to the runner's packages.
ENGINE, GATEWAY = "engine", "gateway"
PARTS = (ENGINE, GATEWAY)
UPDATE = "./doit run image_serve_update"
# Folders in the root volume. `enclave_runner/serving/boot.py` shows the first one to the engine.
ENGINE_PLACE = Path("usr/lib/aicert-engine")
PLACES = {ENGINE: ENGINE_PLACE, GATEWAY: Path("usr/lib/python3/dist-packages")}


def unpack(store: Store, packages: Sequence[Package], target: Path) -> None:
    """Unpack the packages of both parts below `target`, at their paths in the machine."""
    for part, place in PLACES.items():
        (target / place).mkdir(parents=True)
        for package in packages:
            if package.part == part:
                _unpack(store.get(package), package.name, target / place)
    for folder, _, names in os.walk(target):
        os.chmod(folder, 0o755)  # noqa: S103  # a read-only system, which the engine reads too
        for name in names:
            os.chmod(os.path.join(folder, name), 0o644)


def compiled(tree: Path) -> list[Path]:
    """Return the paths in the root volume that get byte code."""
    gateway = sorted((tree / PLACES[GATEWAY]).iterdir())
    return [ENGINE_PLACE, *(path.relative_to(tree) for path in gateway if _is_code(path))]


def _is_code(path: Path) -> bool:
    return path.suffix in ("", ".py")


def _unpack(wheel: Path, name: str, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            check_path(entry.filename)
            path = target / entry.filename
            if ".data/" in entry.filename or path.exists():
                raise ToolError(f"cannot unpack the wheel of {name} as it is: {entry.filename!a}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(entry))
