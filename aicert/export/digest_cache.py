"""A cache of SHA-256 by file status, so that a command with nothing to do reads no file twice.

Promises: a digest is given only for the very device, inode, size, mtime and ctime it was computed
for, and is kept only when both times were older than GUARD when reading began: any later write gets
another ctime, which users cannot set (the rule by which git treats its index as "racily clean").
Safe for several processes; a cache that is damaged or locked is a cache that knows nothing.

Leaves out: writers through a shared mapping that was dirty before, and clocks set back. Hence
verifiers and the runner never use it: what is verified or certified is always read.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from aicert.digest import FileFact, is_hex
from aicert.tree import read_file, read_tree

# Kernel ticks are 1 to 10 ms and some file systems count in 2 s.
GUARD = 2_500_000_000
# Some 100 MB; past it the oldest knowledge is worth less than the space.
MAX_ROWS = 1_000_000

Key = tuple[int, int, int, int, int]
_SCHEMA = """
create table if not exists digests (
    device integer, inode integer, size integer, mtime integer, ctime integer, sha256 text not null,
    primary key (device, inode)
) without rowid
"""
_FIND = (
    "select sha256 from digests "
    "where device = ? and inode = ? and size = ? and mtime = ? and ctime = ?"
)


def cached_tree(
    path: Path,
    *,
    cache: Path,
    on_bytes: Callable[[int], None] | None = None,
    skip: Callable[[str], bool] | None = None,
) -> dict[str, FileFact]:
    """`aicert.tree.read_tree`, reading only files whose status is new."""
    with _open(cache) as digests:
        return read_tree(
            path,
            on_bytes=on_bytes,
            known=lambda _, status: digests.find(status),
            learned=lambda _, status, sha256: digests.keep(status, sha256),
            skip=skip,
        )


def cached_file(
    path: Path, *, cache: Path, on_bytes: Callable[[int], None] | None = None
) -> FileFact:
    """`aicert.tree.read_file`, reading only when the file's status is new."""
    with _open(cache) as digests:
        with contextlib.suppress(OSError):
            # read_file follows no link and says what is wrong; here a link is only not cached.
            before = path.lstat()
            sha256 = digests.find(before)
            if sha256 is not None:
                return FileFact(before.st_size, sha256)
        fact = read_file(path, on_bytes=on_bytes)
        with contextlib.suppress(OSError):
            after = path.lstat()
            if _key(before) == _key(after):
                digests.keep(after, fact.sha256)
        return fact


def _key(status: os.stat_result) -> Key:
    # SQLite integers are signed; device and inode numbers need not fit.
    return (
        _signed(status.st_dev),
        _signed(status.st_ino),
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


class _Digests:
    """The open cache. `keep` may be called from any thread; `find` from the one that opened it."""

    def __init__(self, database: sqlite3.Connection | None) -> None:
        self._database = database
        self._oldest_racy = time.time_ns() - GUARD
        # list.append is atomic: hashing threads share it without a lock.
        self._learned: list[tuple[int | str, ...]] = []

    def find(self, status: os.stat_result) -> str | None:
        """The digest of the file with exactly this status, if it is known."""
        if self._database is None:
            return None
        row: tuple[str] | None
        try:
            row = self._database.execute(_FIND, _key(status)).fetchone()
        except sqlite3.Error:
            self._database = None
            return None
        return row[0] if row and is_hex(row[0]) else None

    def keep(self, status: os.stat_result, sha256: str) -> None:
        """Remember a digest, unless the file is so young that a change could go unseen."""
        if max(status.st_mtime_ns, status.st_ctime_ns) < self._oldest_racy:
            self._learned.append((*_key(status), sha256))

    def save(self) -> None:
        """Write what was learned; to fail here only costs time later."""
        if self._database is None or not self._learned:
            return
        with contextlib.suppress(sqlite3.Error), self._database:
            count = self._database.execute("select count(*) from digests").fetchone()[0]
            if count + len(self._learned) > MAX_ROWS:
                self._database.execute("delete from digests")
            self._database.executemany(
                "insert or replace into digests values (?, ?, ?, ?, ?, ?)", self._learned
            )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Digests]:
    database = _connect(path)
    digests = _Digests(database)
    try:
        yield digests
        digests.save()
    finally:
        if database is not None:
            database.close()


def _connect(path: Path) -> sqlite3.Connection | None:
    """The database, begun anew when the file is no cache of ours; None to do without."""
    for _ in range(2):
        database = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(path, timeout=5)
            # Losing the newest entries in a power cut is harmless.
            database.execute("pragma synchronous = off")
            database.execute(_SCHEMA)
            database.execute(_FIND, (0, 0, 0, 0, 0)).fetchone()
            return database
        except (OSError, sqlite3.OperationalError):
            # Locked for long, or a place where nothing can be written: not ours to remove.
            _close(database)
            return None
        except sqlite3.DatabaseError:
            _close(database)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                path.with_name(path.name + "-journal").unlink(missing_ok=True)
    return None


def _close(database: sqlite3.Connection | None) -> None:
    if database is not None:
        database.close()
