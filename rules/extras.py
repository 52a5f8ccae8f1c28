"""Tools that only some commands need: each set from a hashed lock of its own, beside `.venv`.

A set is a folder for PYTHONPATH, not an environment: its packages use what `.venv` has. The name of
the folder says what the lock said, so that a changed lock makes a new one.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from rules.bootstrap import cache_directory
from rules.progress import say


def install(name: str, lock: Path) -> Path | None:
    """The folder with what `lock` names, installed if it is not there; None where pip cannot."""
    place = cache_directory() / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if (place / "complete").is_file():
        return place
    say(f"installing {lock}")
    command = [sys.executable, "-I", "-m", "pip", "install", "--require-hashes", "--no-deps"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--upgrade", "--quiet"]
    done = subprocess.run(
        [*command, "--target", str(place), "-r", str(lock)], capture_output=True, text=True
    )
    if done.returncode != 0:
        return None
    (place / "complete").touch()
    return place


def python_path(*folders: Path | None) -> str:
    """PYTHONPATH of these folders, in order; None is left out."""
    return os.pathsep.join(str(folder) for folder in folders if folder is not None)
