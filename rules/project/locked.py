"""A lockfile in `lockfiles/`: its path, its bytes and its content."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aicert.errors import LockError
from aicert.formats import lockfile as form
from aicert.formats.lockfile import Lockfile

DIRECTORY = "lockfiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A run's lockfile, and where its inputs are on this host once they are fetched
    (rules.project.fetch).

    `parts`: inputs in this repository with only some files chosen (`{path: file}`).
    """

    lockfile: Lockfile
    data: bytes
    paths: Mapping[str, Path]
    listings: Mapping[str, bytes]
    parts: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def path_of(root: Path, run: str) -> Path:
    """Return where the lockfile of a run is."""
    return root / DIRECTORY / f"{run}.lock.toml"


def listing_of(root: Path, run: str, name: str) -> Path:
    """Return where the listing of an input is."""
    return root / DIRECTORY / run / f"{name}.sha256"


def read(root: Path, run: str) -> bytes:
    """Return the bytes of a run's lockfile. Raises LockError if there is none."""
    path = path_of(root, run)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LockError(f"run {run} has no lockfile", hint=f"./doit lock {run}") from None
    except OSError as error:
        raise LockError(f"cannot read {path}: {error.strerror}") from None


@functools.lru_cache(maxsize=64)
def parsed(data: bytes) -> Lockfile:
    """Return the content of a lockfile, parsed once per process."""
    return form.parse(data)
