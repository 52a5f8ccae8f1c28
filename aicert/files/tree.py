"""Measure a file or a directory that its owner may be changing or may have booby-trapped.

Every directory is held open and every name is opened relative to it with O_NOFOLLOW, so no link
and no rename redirects the walk; what was opened is judged by fstat, so no FIFO, device or socket
is read. Only regular files and non-empty directories are accepted. Memory is flat: files are read
in blocks, large ones in parallel (hashlib releases the GIL).
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.formats.digest import FileFact
from aicert.formats.paths import MAX_DEPTH, MAX_FILES, check_path, check_paths

# Fits the cache of a core; large enough that the GIL is seldom taken.
BLOCK = 1 << 19
# Below this a thread hand-over costs more than the hashing.
SMALL = 1 << 18

OnBytes = Callable[[int], None]
Known = Callable[[str, os.stat_result], str | None]
Learned = Callable[[str, os.stat_result, str], None]
Skip = Callable[[str], bool]
Look = Callable[[str, int, int], None]
Refused = Callable[[str, EvidenceError], None]

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_OPEN_DIR = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY


def read_file(path: Path, *, on_bytes: OnBytes | None = None) -> FileFact:
    """Return size and SHA-256 of one regular file. Raises EvidenceError for anything else."""
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        raise _unreadable(str(path), error) from None
    try:
        return _hash_open(fd, str(path), os.fstat(fd), on_bytes)
    finally:
        os.close(fd)


def read_tree(
    root: Path,
    *,
    on_bytes: OnBytes | None = None,
    known: Known | None = None,
    learned: Learned | None = None,
    skip: Skip | None = None,
    look: Look | None = None,
    refused: Refused | None = None,
    threads: int | None = None,
) -> dict[str, FileFact]:
    """Return `{relative path: FileFact}` of every file under `root`.

    `known(path, stat)` may give a digest that a cache holds for exactly that stat; `learned` is
    called with each digest computed here. `skip(path)` leaves out a file, or a directory (its path
    ends in `/`). `look(path, descriptor, size)` is called for each file that is read, and raises
    EvidenceError to refuse it. Raises EvidenceError for links, special files, empty directories,
    unsafe names and what `look` refuses; if `refused` is given, calls it with each such path and
    goes on. Paths that differ only in case, and I/O errors, are always raised.
    """
    walk = _Walk(on_bytes, known, learned, skip, look, refused)
    try:
        fd = os.open(root, _OPEN_DIR)
    except OSError as error:
        if root.is_symlink():
            raise EvidenceError(
                f"cannot read {str(root)!a}: it is a symbolic link, and links are not followed",
                hint=f"name the directory itself: {os.path.realpath(root)}",
            ) from None
        raise _unreadable(str(root), error) from None
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        try:
            walk.directory(fd, "", 0)
            # Largest first, so that no thread starts on the biggest file last.
            walk.large.sort(key=lambda item: -item[0])
            futures = [pool.submit(walk.file_at, root, path) for _, path in walk.large]
            for future in futures:
                future.result()
        except BaseException:
            walk.stopped = True
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    try:
        check_paths(walk.files)
    except EvidenceError as error:
        walk.refuse(".", error)
    return walk.files


def read_some(
    root: Path, paths: Iterable[str], *, on_bytes: OnBytes | None = None, threads: int | None = None
) -> dict[str, FileFact]:
    """Like `read_tree`, for these files only; nothing else under `root` is looked at."""
    wanted = list(paths)
    check_paths(wanted)
    walk = _Walk(on_bytes, None, None, None, None, None)
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        try:
            for future in [pool.submit(walk.file_at, root, path) for path in wanted]:
                future.result()
        except BaseException:
            walk.stopped = True
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return walk.files


def open_file(root: Path, path: str) -> int:
    """Return a descriptor of the file at `path` under `root`; no part of `path` may be a link."""
    try:
        fd = os.open(root, _OPEN_DIR)
        try:
            *folders, name = path.split("/")
            for folder in folders:
                inner = os.open(folder, _OPEN_DIR, dir_fd=fd)
                os.close(fd)
                fd = inner
            return os.open(name, _OPEN, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _unreadable(path, error) from None


class _Walk:
    def __init__(
        self,
        on_bytes: OnBytes | None,
        known: Known | None,
        learned: Learned | None,
        skip: Skip | None,
        look: Look | None,
        refused: Refused | None,
    ) -> None:
        self.on_bytes = on_bytes
        self.known = known
        self.learned = learned
        self.skip = skip
        self.look = look
        self.refused = refused
        self.refusals = 0
        self.files: dict[str, FileFact] = {}
        self.large: list[tuple[int, str]] = []
        self.stopped = False

    def refuse(self, path: str, error: EvidenceError) -> None:
        """Report what cannot be certified to `refused`, if the caller gave that; otherwise raise
        it.
        """
        if self.refused is None:
            raise error
        self.refusals += 1
        self.refused(path, error)

    def directory(self, fd: int, prefix: str, depth: int) -> None:
        """Read the directory at `fd`, whose entries' paths start with `prefix`; closes `fd`."""
        try:
            if depth > MAX_DEPTH:
                self.refuse(
                    prefix,
                    EvidenceError(
                        f"directories are nested deeper than {MAX_DEPTH}: {prefix[:200]!a}"
                    ),
                )
                return
            entries = 0
            with os.scandir(fd) as listing:
                for entry in listing:
                    entries += 1
                    if len(self.files) + len(self.large) + self.refusals > MAX_FILES:
                        raise EvidenceError(f"more than {MAX_FILES} files under {prefix[:200]!a}")
                    try:
                        self._entry(fd, entry, prefix + entry.name, depth)
                    except OSError as error:
                        raise _unreadable(prefix + entry.name, error) from None
            if not entries:
                text = f"an empty directory cannot be certified: {prefix or '.'!a}"
                hint = "remove it, or put a file there: `find DIR -type d -empty` shows all of them"
                self.refuse(prefix or ".", EvidenceError(text, hint=hint))
        except OSError as error:
            raise _unreadable(prefix or ".", error) from None
        finally:
            os.close(fd)

    def _entry(self, fd: int, entry: os.DirEntry[str], path: str, depth: int) -> None:
        folder = entry.is_dir(follow_symlinks=False)
        if self.skip is not None and self.skip(path + "/" if folder else path):
            return
        if folder or self.refused is not None:
            # Without `refused`, files' paths are checked together at the end: the first error ends
            # the walk anyway.
            try:
                check_path(path)
            except EvidenceError as error:
                self.refuse(path, error)
                return
        if folder:
            self.directory(os.open(entry.name, _OPEN_DIR, dir_fd=fd), path + "/", depth + 1)
            return
        if self.known is not None:
            status = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
            value = self.known(path, status) if stat.S_ISREG(status.st_mode) else None
            if value is not None:
                self.files[path] = FileFact(status.st_size, value)
                return
        if not entry.is_file(follow_symlinks=False):
            status = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
            self.refuse(path, _not_regular(path, status.st_mode))
            return
        file_fd = os.open(entry.name, _OPEN, dir_fd=fd)
        try:
            status = os.fstat(file_fd)
            if status.st_size > SMALL:
                self.large.append((status.st_size, path))
            else:
                self._record(file_fd, path, status, self.on_bytes)
        finally:
            os.close(file_fd)

    def file_at(self, root: Path, path: str) -> None:
        """Hash one large file, walking to it again component by component (no link is followed)."""
        if self.stopped:
            return
        fd = open_file(root, path)
        try:
            self._record(fd, path, os.fstat(fd), self.count)
        except OSError as error:
            raise _unreadable(path, error) from None
        finally:
            os.close(fd)

    def count(self, size: int) -> None:
        """Report bytes that were read.

        Raises EvidenceError if all reading has ended, by Ctrl-C for example.
        """
        if self.stopped:
            raise EvidenceError("the reading of other files ended")
        if self.on_bytes is not None:
            self.on_bytes(size)

    def _record(self, fd: int, path: str, status: os.stat_result, on_bytes: OnBytes | None) -> None:
        fact = _hash_open(fd, path, status, on_bytes)
        if self.look is not None:
            try:
                self.look(path, fd, status.st_size)
            except EvidenceError as error:
                self.refuse(path, error)
                return
        self.files[path] = fact
        if self.learned is not None:
            self.learned(path, status, fact.sha256)


def _hash_open(fd: int, path: str, status: os.stat_result, on_bytes: OnBytes | None) -> FileFact:
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(path, status.st_mode)
    try:
        if status.st_size <= SMALL:
            data = os.read(fd, status.st_size + 1)
            total = len(data)
            value = hashlib.sha256(data).hexdigest()
            if on_bytes is not None:
                on_bytes(total)
            changed = total != status.st_size
        else:
            total, value = _hash_blocks(fd, status.st_size, on_bytes)
            changed = total != status.st_size or _stamp(status) != _stamp(os.fstat(fd))
    except OSError as error:
        raise _unreadable(path, error) from None
    if changed:
        raise EvidenceError(
            f"file changed while it was read: {path!a}",
            hint="run it again while nothing writes there",
        )
    return FileFact(total, value)


def _hash_blocks(fd: int, size: int, on_bytes: OnBytes | None) -> tuple[int, str]:
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    total = 0
    # Read no further than one block past the end: a writer that appends faster than we read would
    # keep us here for ever.
    while total <= size and (count := os.readv(fd, [buffer])):
        digest.update(view[:count])
        total += count
        if on_bytes is not None:
            on_bytes(count)
    return total, digest.hexdigest()


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _not_regular(path: str, mode: int) -> EvidenceError:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
        stat.S_IFDIR: "a directory",
    }
    kind = kinds.get(stat.S_IFMT(mode), "not a regular file")
    return EvidenceError(
        f"{path!a} is {kind}: only regular files can be certified",
        hint="replace it with the file itself, for example with `cp -L`",
    )


def _unreadable(path: str, error: OSError) -> EvidenceError:
    if error.errno == errno.ELOOP:
        # O_NOFOLLOW gives this for any link.
        return EvidenceError(
            f"cannot read {path!a}: it is a symbolic link, and links are not followed"
        )
    return EvidenceError(f"cannot read {path!a}: {error.strerror or error}")
