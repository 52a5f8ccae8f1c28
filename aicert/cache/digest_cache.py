"""Cache SHA-256 digests by file status, so that a command with nothing to do reads no file twice.

Promises: a digest is returned only for the same device, inode, size, mtime and ctime for which it
was computed, and is stored only if both times were older than GUARD when reading began. So any
later write gives the file a different ctime, which users cannot set (git's rule for "racily clean"
entries of its index). A directory's listing is cached too, under the names and statuses of all its
files: it takes one stat per file and one row. What was computed before an interruption is kept.
Several processes may use the cache; one that is damaged or locked counts as empty.

Not covered: writes through a shared mapping that was dirty before, and clocks that are set back.
Therefore verifiers and the runner never use the cache: what is verified or certified is always
read.
"""

import contextlib
import hashlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aicert.cache.tree_status import TreeStatus, look
from aicert.errors import ConfigError
from aicert.files.bounded import why
from aicert.files.tree import read_file, read_tree
from aicert.formats.digest import FileFact, is_hex
from aicert.formats.listing import listing
from aicert.frozen import dataclass

# Kernel ticks are 1 to 10 ms long, and some file systems count in steps of 2 s.
GUARD = 2_500_000_000
# About 100 MB; beyond that, the oldest digests are worth less than the space.
MAX_ROWS = 1_000_000
MAX_TREES = 100
# The most work that an interruption loses, in seconds of hashing.
SAVE_EVERY = 5.0

# The first bytes of an SQLite file (sqlite.org, Database File Format, 1.3).
_MAGIC = b"SQLite format 3\0"

Key = tuple[int, int, int, int, int]
_SCHEMA = """
create table if not exists digests (
    device integer, inode integer, size integer, mtime integer, ctime integer, sha256 text not null,
    primary key (device, inode)
) without rowid
"""
_TREES = """
create table if not exists trees (
    path text primary key, stamp text not null, listing blob not null, sha256 text not null
)
"""
_FIND_TREE = "select listing, sha256 from trees where path = ? and stamp = ?"
_FIND = (
    "select sha256 from digests "
    "where device = ? and inode = ? and size = ? and mtime = ? and ctime = ?"
)


def check_own(path: Path) -> None:
    """Raise ConfigError if others could write to a cache at `path`, or it would replace another
    file.

    Whoever writes to the cache, or beside it (SQLite replays a journal that lies there), decides
    what the next signature says.
    """
    place = Path(os.path.realpath(path))
    try:
        for existing in filter(Path.exists, (place.parent, place)):
            status = existing.stat()
            if status.st_uid not in (os.geteuid(), 0) or status.st_mode & stat.S_IWOTH:
                raise ConfigError(
                    f"others may write to {os.fspath(existing)!a}: whoever writes a cache "
                    "chooses what is signed",
                    hint="--cache ~/.cache/aicert-digests",
                )
        if place.exists() and not (place.is_file() and _is_database(place)):
            raise ConfigError(f"{os.fspath(path)!a} is not a cache", hint="name a new file")
    except OSError as error:
        raise ConfigError(f"cannot use {os.fspath(path)!a}: {why(error)}") from None


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    return head in (b"", _MAGIC)


def cached_tree(
    path: Path,
    *,
    cache: Path,
    on_bytes: Callable[[int], None] | None = None,
    skip: Callable[[str], bool] | None = None,
) -> dict[str, FileFact]:
    """Read a tree like `aicert.files.tree.read_tree`, but only files whose status is new."""
    with _open(cache) as digests:
        return read_tree(
            path,
            on_bytes=on_bytes,
            known=lambda _, status: digests.find(status),
            learned=lambda _, status, sha256: digests.keep(status, sha256),
            skip=skip,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A directory: the total size of its files, and their `sha256sum` listing."""

    size: int
    listing: bytes

    @property
    def names(self) -> list[str]:
        """The paths of the files."""
        return [line[66:] for line in self.listing.decode().split("\n")[:-1]]


def cached_listing(
    path: Path, *, cache: Path, on_bytes: Callable[[int], None] | None = None
) -> Listed:
    """Return a tree's listing, as `read_tree` gives it; read only files whose status is new."""
    with _open(cache) as digests:
        before = look(path)
        known = None if before is None else digests.find_tree(path, before)
        if before is not None and known is not None:
            return Listed(size=before.size, listing=known)
        files = read_tree(
            path,
            on_bytes=on_bytes,
            known=lambda _, status: digests.find(status),
            learned=lambda _, status, sha256: digests.keep(status, sha256),
        )
        listed = Listed(size=sum(fact.size for fact in files.values()), listing=listing(files))
        if before is not None and before == look(path):
            digests.keep_tree(path, before, listed.listing)
        return listed


def cached_file(
    path: Path, *, cache: Path, on_bytes: Callable[[int], None] | None = None
) -> FileFact:
    """Read a file as `aicert.files.tree.read_file` does, but only if its status is new."""
    with _open(cache) as digests:
        with contextlib.suppress(OSError):
            # read_file follows no links and reports what is wrong; here a link is merely not
            # cached.
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
    # SQLite integers are signed, and device and inode numbers may not fit.
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
    """The open cache. Any thread may call `keep`; `find` only the thread that opened the cache."""

    def __init__(self, database: sqlite3.Connection | None) -> None:
        self._database = database
        self._oldest_racy = time.time_ns() - GUARD
        # list.append is atomic: hashing threads share it without a lock.
        self._learned: list[tuple[int | str, ...]] = []
        self._saving = threading.Lock()
        self._saved_at = time.monotonic()

    def find(self, status: os.stat_result) -> str | None:
        """Return the digest of the file with exactly this status, or None."""
        row = self._first(_FIND, _key(status))
        return row[0] if row and is_hex(row[0]) else None

    def find_tree(self, path: Path, seen: TreeStatus) -> bytes | None:
        """Return the listing of the directory with exactly this status, or None."""
        row = self._first(_FIND_TREE, (str(path.absolute()), seen.stamp))
        tree = row[0] if row else None
        if not isinstance(tree, bytes) or hashlib.sha256(tree).hexdigest() != row[1]:
            return None
        return tree

    def _first(self, question: str, values: tuple[int | str, ...]) -> Any:
        if self._database is None:
            return None
        try:
            return self._database.execute(question, values).fetchone()
        except sqlite3.Error:
            self._database = None
            return None

    def keep(self, status: os.stat_result, sha256: str) -> None:
        """Store a digest, unless the file is so recent that a change could go unnoticed."""
        if max(status.st_mtime_ns, status.st_ctime_ns) < self._oldest_racy:
            self._learned.append((*_key(status), sha256))
            if time.monotonic() - self._saved_at > SAVE_EVERY:
                self.save()

    def keep_tree(self, path: Path, seen: TreeStatus, tree: bytes) -> None:
        """Store a listing, unless a file in it is so recent that a change could go unnoticed."""
        if self._database is None or seen.newest >= self._oldest_racy:
            return
        with contextlib.suppress(sqlite3.Error, UnicodeEncodeError), self._database:
            if self._count("trees") >= MAX_TREES:
                self._database.execute("delete from trees")
            row = (str(path.absolute()), seen.stamp, tree, hashlib.sha256(tree).hexdigest())
            self._database.execute("insert or replace into trees values (?, ?, ?, ?)", row)

    def save(self) -> None:
        """Write the new digests to disk; a failure only costs time later."""
        if self._database is None or not self._learned:
            return
        with self._saving, contextlib.suppress(sqlite3.Error), self._database:
            learned, self._learned = self._learned, []
            self._saved_at = time.monotonic()
            if self._count("digests") + len(learned) > MAX_ROWS:
                self._database.execute("delete from digests")
            self._database.executemany(
                "insert or replace into digests values (?, ?, ?, ?, ?, ?)", learned
            )

    def _count(self, table: str) -> int:
        row = self._first(f"select count(*) from {table}", ())  # noqa: S608 - one of ours
        return row[0] if row else 0


@contextlib.contextmanager
def _open(path: Path) -> Iterator[_Digests]:
    database = _connect(path)
    digests = _Digests(database)
    try:
        yield digests
    finally:
        # Save after an interruption too, so that nothing is read twice.
        digests.save()
        if database is not None:
            database.close()


def _connect(path: Path) -> sqlite3.Connection | None:
    """Open the database, or create it anew if the file is not our cache; None to do without."""
    for _ in range(2):
        database = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Any of the threads that hash may write, one at a time.
            database = sqlite3.connect(path, timeout=5, check_same_thread=False)
            # Losing the newest entries in a power cut is harmless.
            database.execute("pragma synchronous = off")
            database.execute(_SCHEMA)
            database.execute(_TREES)
            database.execute(_FIND, (0, 0, 0, 0, 0)).fetchone()
            database.execute(_FIND_TREE, ("", "")).fetchone()
            return database
        except (OSError, sqlite3.OperationalError):
            # It was locked for too long, or the place is not writable: do not remove it.
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
