"""Paths that must be plain files or folders, because a review or a merged checkout reads them.

After a merge a link would be followed wherever it leads. git stores its target as text, so a review
of contents would not show it. Devices, pipes, submodules, executable files, and a folder in place
of a file are refused as well.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

FILES = ("aicert.toml",)
FOLDERS = ("certificates", "lockfiles")
# git's modes of an entry (git fast-import(1), "Mode").
_PLAIN = b"100644"
_MODES = {
    b"100755": "an executable file",
    b"120000": "a link",
    b"160000": "a submodule",
}
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def in_tree(entries: Iterable[tuple[bytes, str]]) -> Iterator[tuple[str, str]]:
    """Yield what is not plain in a git tree's `(mode, path)` entries, at the paths above: each
    path, and what it is.
    """
    for mode, path in entries:
        top, below = path.partition("/")[::2]
        if top in FILES and below:
            yield path, f"below {top}, which is a folder"
        elif top not in FILES + FOLDERS:
            continue
        elif mode != _PLAIN:
            yield path, _MODES.get(mode, f"an entry of mode {mode.decode('ascii', 'replace')}")
        elif top in FOLDERS and not below:
            yield path, "a file in the place of a folder"


def in_folder(root: Path, *, modes: bool) -> Iterator[tuple[str, str]]:
    """Yield the same for files on disk. `modes`: whether the file system records who may execute a
    file.
    """
    for name in FILES + FOLDERS:
        try:
            status = os.lstat(root / name)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode) and name in FOLDERS:
            yield from _below(root, name, modes=modes)
        elif name in FOLDERS:
            yield name, _KINDS.get(stat.S_IFMT(status.st_mode), "a file in the place of a folder")
        else:
            yield from _one(name, status, modes=modes)


def _below(root: Path, folder: str, *, modes: bool) -> Iterator[tuple[str, str]]:
    with os.scandir(root / folder) as entries:
        sorted_entries = sorted(entries, key=lambda entry: entry.name)
    for entry in sorted_entries:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(root, path, modes=modes)
        else:
            yield from _one(path, entry.stat(follow_symlinks=False), modes=modes)


def _one(path: str, status: os.stat_result, *, modes: bool) -> Iterator[tuple[str, str]]:
    if not stat.S_ISREG(status.st_mode):
        yield path, _KINDS.get(stat.S_IFMT(status.st_mode), "a folder in the place of a file")
    elif modes and status.st_mode & (stat.S_ISUID | stat.S_ISGID | 0o111):
        yield path, "an executable file"
