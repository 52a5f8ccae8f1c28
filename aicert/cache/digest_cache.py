"""A cache of SHA-256 by file status, so that a command with nothing to do reads no file twice.

Promises: a digest is given only for the very device, inode, size, mtime and ctime it was computed
for, and is kept only when both times were older than GUARD when reading began: any later write gets
another ctime, which users cannot set (the rule by which git treats its index as "racily clean").
A directory's listing is kept too, under the names and statuses of all its files at once: one look
at each, and one row. What was learned before an interruption is kept. Safe for several processes; a
cache that is damaged or locked is a cache that knows nothing.

Leaves out: writers through a shared mapping that was dirty before, and clocks set back. Hence
verifiers and the runner never use it: what is verified or certified is always read.
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

from aicert.cache.tree_status import Seen, look
from aicert.errors import ConfigError
from aicert.files.bounded import why
from aicert.files.tree import read_file, read_tree
from aicert.formats.digest import FileFact, is_hex
from aicert.formats.listing import listing
from aicert.frozen import dataclass

# Kernel ticks are 1 to 10 ms and some file systems count in 2 s.
GUARD = 2_500_000_000
# Some 100 MB; beyond that, the oldest digests are worth less than the space.
MAX_ROWS = 1_000_000
MAX_TREES = 100
# The most that an interruption costs, in seconds of hashing.
SAVE_EVERY = 5.0

# How each of SQLite's files begins (sqlite.org, Database File Format, 1.3).
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
    """Raise ConfigError if others could write to a cache at `path`, or if it would replace another
    file. Whoever writes to it, or beside it (SQLite replays a journal that lies there), chooses
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
    """`aicert.files.tree.read_tree`, reading only files whose status is new."""
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
    """A tree's listing, as `read_tree` gives it: only files whose status is new are read."""
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
    """`aicert.files.tree.read_file`, reading only when the file's status is new."""
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
        self._saving = threading.Lock()
        self._saved_at = time.monotonic()

    def find(self, status: os.stat_result) -> str | None:
        """The digest of the file with exactly this status, if it is known."""
        row = self._first(_FIND, _key(status))
        return row[0] if row and is_hex(row[0]) else None

    def find_tree(self, path: Path, seen: Seen) -> bytes | None:
        """The listing of the directory that was seen exactly like this, if it is known."""
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
        """Remember a digest, unless the file is so young that a change could go unseen."""
        if max(status.st_mtime_ns, status.st_ctime_ns) < self._oldest_racy:
            self._learned.append((*_key(status), sha256))
            if time.monotonic() - self._saved_at > SAVE_EVERY:
                self.save()

    def keep_tree(self, path: Path, seen: Seen, tree: bytes) -> None:
        """Remember a listing, unless a file in it is so young that a change could go unseen."""
        if self._database is None or seen.newest >= self._oldest_racy:
            return
        with contextlib.suppress(sqlite3.Error, UnicodeEncodeError), self._database:
            if self._count("trees") >= MAX_TREES:
                self._database.execute("delete from trees")
            row = (str(path.absolute()), seen.stamp, tree, hashlib.sha256(tree).hexdigest())
            self._database.execute("insert or replace into trees values (?, ?, ?, ?)", row)

    def save(self) -> None:
        """Write the new digests; a failure here only costs time later."""
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
        # Also after an interruption, so that nothing is read twice.
        digests.save()
        if database is not None:
            database.close()


def _connect(path: Path) -> sqlite3.Connection | None:
    """The database, begun anew when the file is no cache of ours; None to do without."""
    for _ in range(2):
        database = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Any thread that hashes may write, one at a time.
            database = sqlite3.connect(path, timeout=5, check_same_thread=False)
            # Losing the newest entries in a power cut is harmless.
            database.execute("pragma synchronous = off")
            database.execute(_SCHEMA)
            database.execute(_TREES)
            database.execute(_FIND, (0, 0, 0, 0, 0)).fetchone()
            database.execute(_FIND_TREE, ("", "")).fetchone()
            return database
        except (OSError, sqlite3.OperationalError):
            # It has been locked for long, or the place is not writable: do not remove it.
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
