"""Where a finished image is, and what uses it."""

from dataclasses import dataclass
from pathlib import Path

from aicert.formats.image_lock import Package

# In the tools tree: what qemu machines start first.
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
