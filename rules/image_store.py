"""Where a finished image lies, and what reads it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image: its disk, its lock's bytes, and the tools tree that boots it."""

    folder: Path
    disk: Path
    tools: Path
    lock: bytes
