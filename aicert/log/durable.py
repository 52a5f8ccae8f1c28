"""Durable writes of files, and a lock that lets only one program at a time write to a folder.

Once `write` has returned, a power cut loses none of the data. If the program is killed during a
write, the old file stays, and beside it a temporary file whose name the next writer uses again.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from aicert.errors import ToolError
from aicert.files.bounded import why


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path`, create missing folders, and wait until everything is on the disk."""
    beside = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        _make(path.parent)
        with open(os.open(beside, flags, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync(path.parent)
    except OSError as error:
        raise ToolError(f"cannot write {os.fspath(path)!a}: {why(error)}") from None


def create(path: Path, data: bytes, *, mode: int) -> None:
    """Write `data` durably to a new file; `path` must not exist yet."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _sync(path.parent)
    except OSError as error:
        raise ToolError(f"cannot write {os.fspath(path)!a}: {why(error)}") from None


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other program writes to the folder, and hold its lock against others."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ToolError(f"cannot open {os.fspath(folder)!a}: {why(error)}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make(folder: Path) -> None:
    """Create a folder and its parents, unless they exist."""
    try:
        _make(folder)
    except OSError as error:
        raise ToolError(f"cannot make {os.fspath(folder)!a}: {why(error)}") from None


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Wait until the folder's own entries (the names in it) are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
