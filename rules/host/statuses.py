"""Which files are in a folder, without reading them: by device, inode, size and mtime.

ctime is left out, because linking or renaming a file changes it as well.
"""

import os
from collections.abc import Iterator
from pathlib import Path

Status = tuple[int, int, int, int]


def status_of(path: Path) -> Status | None:
    """Return the status of `path`; None if nothing is there."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def files(path: Path) -> Iterator[Path]:
    """Yield `path` if it is a file, otherwise every file below it."""
    if path.is_file():
        yield path
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)


def statuses(folder: Path) -> dict[str, Status | None]:
    """Return the status of everything below `folder`, by relative path; of folders only the empty
    ones.

    This makes anything added to the tree a difference: a file, a link to a folder, an empty folder.
    """
    by_path: dict[str, Status | None] = {}
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for path in (Path(place, name) for name in (*names, *links)):
            by_path[os.path.relpath(path, folder)] = status_of(path)
        if not folders and not names:
            by_path[os.path.relpath(place, folder)] = None
    return by_path
