"""Unpack Python packages into a folder of an image, without installing anything.

A wheel is an archive of files at their final paths (binary distribution format, "File contents").
One that has scripts or headers, which an installer would put elsewhere, is refused, and so is a
source archive.
"""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

from aicert.errors import EvidenceError, ToolError
from aicert.formats.image_lock import Package
from aicert.formats.paths import check_path


def unpack(
    package: Package,
    wheel: Path,
    target: Path,
    is_left_out: Callable[[str], bool] = lambda _: False,
) -> None:
    """Unpack one package into `target`. Raises ToolError if that does not do."""
    if not zipfile.is_zipfile(wheel):
        raise _cannot(package, wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or is_left_out(entry.filename):
                continue
            path = target / _checked(package, entry.filename)
            if ".data/" in entry.filename or path.exists():
                raise _cannot(package, entry.filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(entry))


def settle(target: Path) -> None:
    """Give a tree fixed permissions: a read-only system, which the trainer reads too."""
    for folder, _, names in os.walk(target):
        os.chmod(folder, 0o755)  # noqa: S103
        for name in names:
            os.chmod(os.path.join(folder, name), 0o644)


def _cannot(package: Package, name: str) -> ToolError:
    return ToolError(f"cannot unpack the package {package.name} as it is: {name!a}")


def _checked(package: Package, name: str) -> str:
    try:
        check_path(name)
    except EvidenceError:
        raise _cannot(package, name) from None
    return name
