"""The paths of a finished image."""

from dataclasses import dataclass
from pathlib import Path

from aicert.formats.image_lock import Package

# The firmware in the tools tree, which qemu machines start first.
FIRMWARE = "usr/share/OVMF/OVMF_CODE_4M.fd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image: its disk, its lock's bytes, and the tools tree that boots it.

    `replaced`: locked tools that were gone, with their replacements.
    """

    folder: Path
    disk: Path
    tools: Path
    lock: bytes
    replaced: tuple[tuple[Package, Package], ...] = ()
