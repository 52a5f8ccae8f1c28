"""Take the status of a directory: the names and statuses of all its files, as one short text.

Promises: two stamps are equal only if no file was added, removed, renamed, replaced or written to
in between, as far as device, inode, size, mtime and ctime show (see digest_cache for the limits of
that). Not covered: what the files contain, and why a directory cannot be certified.
"""

import hashlib
import os
import stat
from pathlib import Path

from aicert.formats.paths import MAX_DEPTH
from aicert.frozen import dataclass

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeStatus:
    """A directory: the total `size` of its files, and `newest`, the latest of their times."""

    stamp: str
    size: int
    newest: int


def look(root: Path) -> TreeStatus | None:
    """Return the status of everything below `root`.

    Returns None unless there are only regular files and non-empty directories.
    """
    seen = _Look()
    try:
        seen.directory(os.open(root, _OPEN), "", 0)
    except OSError:
        return None
    # NUL separates the names, since no name contains one.
    text = "\0".join(seen.names) + "\0\0" + repr(seen.numbers)
    stamp = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return TreeStatus(stamp=stamp, size=seen.size, newest=seen.newest)


class _Look:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers: list[int] = []
        self.size = 0
        self.newest = 0

    def directory(self, fd: int, prefix: str, depth: int) -> None:
        """Record the contents of the directory at `fd`, and close it."""
        names, numbers, before = self.names, self.numbers, len(self.names)
        size = newest = 0
        try:
            with os.scandir(fd) as entries:
                # Ten thousand files are common, so every avoidable call per file is avoided.
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(status.st_mode):
                        if depth == MAX_DEPTH:
                            raise OSError("nested too deeply")
                        inner = os.open(entry.name, _OPEN, dir_fd=fd)
                        self.directory(inner, f"{prefix}{entry.name}/", depth + 1)
                        continue
                    names.append(prefix + entry.name)
                    length, mtime, ctime = status.st_size, status.st_mtime_ns, status.st_ctime_ns
                    numbers += (status.st_dev, status.st_ino, length, mtime, ctime)
                    size += length
                    newest = max(newest, mtime, ctime)
        finally:
            os.close(fd)
        if len(names) == before:
            raise OSError("an empty directory")
        self.size += size
        self.newest = max(self.newest, newest)
