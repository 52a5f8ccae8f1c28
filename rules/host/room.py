"""Refuse to make or fetch what the disk has no room for, before minutes are spent on it."""

import os
import shutil
from pathlib import Path

from aicert.errors import ToolError
from rules.host import progress

GB = 10**9


def require(folder: Path, needed: int, what: str) -> None:
    """Raise ToolError if the disk of `folder`, which need not exist, has no `needed` bytes."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    _, _, free = shutil.disk_usage(there)
    if free < needed:
        raise ToolError(
            f"{what} needs {progress.amount(needed, 'B')}, and {progress.amount(free, 'B')} are "
            f"free in {there}",
            hint="./doit clean shows what takes up space; or put AICERT_CACHE on another disk",
        )
