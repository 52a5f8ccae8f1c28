"""A lockfile as it lies in `lockfiles/`: where it stands, its bytes, and what it says."""

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
    """A run's lockfile, and where its inputs lie on this host once they are fetched
    (rules.project.fetch).

    `parts`: inputs of this repository of which some files were chosen (`{path: file}`).
    """

    lockfile: Lockfile
    data: bytes
    paths: Mapping[str, Path]
    listings: Mapping[str, bytes]
    parts: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def path_of(root: Path, run: str) -> Path:
    """Where the lockfile of a run stands."""
    return root / DIRECTORY / f"{run}.lock.toml"


def listing_of(root: Path, run: str, name: str) -> Path:
    """Where the listing of an input stands."""
    return root / DIRECTORY / run / f"{name}.sha256"


def read(root: Path, run: str) -> bytes:
    """The bytes of a run's lockfile. Raises LockError where there is none."""
    path = path_of(root, run)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LockError(f"run {run} has no lockfile", hint=f"./doit lock {run}") from None
    except OSError as error:
        raise LockError(f"cannot read {path}: {error.strerror}") from None


@functools.lru_cache(maxsize=64)
def parsed(data: bytes) -> Lockfile:
    """What the bytes of a lockfile say: read once in a process, whichever task asks first."""
    return form.parse(data)
