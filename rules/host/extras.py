"""Tools that only some commands need: each set from a hashed lock of its own, beside `.venv`.

A set is a folder for PYTHONPATH, not an environment: its packages use what `.venv` has. The name of
the folder says what the lock said, so that a changed lock makes a new one.
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
    """The folder with what `lock` names, installed if it is not there. Raises ToolError."""
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
    """PYTHONPATH of these folders, in order; None is left out."""
    return os.pathsep.join(str(folder) for folder in folders if folder is not None)
