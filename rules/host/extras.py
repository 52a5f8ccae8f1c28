"""Tools for single commands: each set has a hashed lock of its own and is installed beside `.venv`.

A set is a folder for PYTHONPATH, not an environment: its packages use those of `.venv`. The
folder's name contains the lock's digest, so a changed lock makes a new folder.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from aicert.errors import ToolError
from rules.host import installer
from rules.host.bootstrap import cache_directory
from rules.host.progress import say


def install(name: str, lock: Path) -> Path:
    """Return the folder with the packages of `lock`, installed if missing. Raises ToolError."""
    place = cache_directory() / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if (place / "complete").is_file():
        return place
    try:
        with installer.only_maker(place, say):
            if not (place / "complete").is_file():
                say(f"installing {lock}")
                shutil.rmtree(place, ignore_errors=True)
                installer.install(Path(sys.executable), lock, target=place)
                (place / "complete").touch()
    except installer.InstallError as error:
        raise ToolError(error.message, hint=error.hint) from None
    return place


def python_path(*folders: Path | None) -> str:
    """Return PYTHONPATH for these folders, in order, without those that are None."""
    return os.pathsep.join(str(folder) for folder in folders if folder is not None)
