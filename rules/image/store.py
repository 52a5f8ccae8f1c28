"""Where a finished image lies, and what reads it."""

from dataclasses import dataclass
from pathlib import Path

from aicert.formats.image_lock import Package

# Below the tools tree: what machines of qemu start first.
FIRMWARE = "usr/share/OVMF/OVMF_CODE_4M.fd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image: its disk, its lock's bytes, and the tools tree that boots it.

    `replaced`: locked tools that were gone, with what took their place.
    """

    folder: Path
    disk: Path
    tools: Path
    lock: bytes
    replaced: tuple[tuple[Package, Package], ...] = ()
