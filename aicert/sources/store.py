"""Store fetched files by their SHA-256 (docs/adr/0004-store.md): `files/`, `partial/`, `trees/`.

Promises: a file under `files/` was hashed while it was written and appears by a rename, so it is
complete or absent; only one process at a time writes a given partial file; a partial file survives
whatever stops its writer and is never taken for complete; whatever else a killed process left, in
`scratch/`, is removed by the next process that locks or fetches. Trees are hard links (or reflinks
or copies, if hard links are impossible), so nothing takes space on the disk twice.

Not promised: what somebody writes into these files later. They are read-only, and whoever uses a
tree compares its digest again (rules.project.fetch, and the machine).
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from aicert.errors import ToolError
from aicert.files.bounded import why
from aicert.formats.digest import FileFact

BLOCK = 1 << 20
# linux/fs.h FICLONE: share the blocks of another file, copied when one of the two is written to.
_FICLONE = 0x40049409
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Store:
    """The store in folder `root`, which is created by the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, sha256: str) -> Path:
        """Return the path of the file with this digest, whether or not it exists."""
        return self.root / "files" / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Return whether the complete file with this digest is here."""
        return self.file(sha256).is_file()

    def remove(self, sha256: str) -> None:
        """Remove a file whose bytes no longer have its digest."""
        self.file(sha256).unlink(missing_ok=True)

    def begun(self, sha256: str) -> int:
        """Return how many bytes of the file with this digest an earlier fetch left."""
        path = self.root / "partial" / sha256
        return path.stat().st_size if path.is_file() else 0

    def tree(self, hexdigest: str) -> Path:
        """Return the path of the directory with this dirHash, whether or not it exists."""
        return self.root / "trees" / hexdigest

    @contextlib.contextmanager
    def partial(self, key: str) -> Iterator["Partial"]:
        """Open the partial file with this name and lock it; wait while another process has it."""
        path = self.root / "partial" / key
        with room(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _locked(path)
            try:
                yield Partial(self, path, file)
            finally:
                _drop_empty(path, file)
                file.close()

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Create a folder for temporary work; it is removed afterwards."""
        with room(self.root):
            folder, lock = self._new_scratch()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()

    def _new_scratch(self) -> tuple[Path, BinaryIO]:
        home = self.root / "scratch"
        home.mkdir(parents=True, exist_ok=True)
        while True:
            folder = Path(tempfile.mkdtemp(dir=home))
            # The `sweep` of another process may have removed it first.
            with contextlib.suppress(FileNotFoundError):
                return folder, _locked(folder / "lock")

    def sweep(self) -> None:
        """Remove what killed processes left in `scratch/`; running ones lock theirs."""
        home = self.root / "scratch"
        for folder in list(home.iterdir()) if home.is_dir() else ():
            with contextlib.suppress(OSError), (folder / "lock").open("a+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)

    def add(self, source: BinaryIO, name: str, size: int, scratch: Path) -> FileFact:
        """Copy `size` bytes into the store by way of `scratch`, and hash them.

        Raises ToolError if there are fewer.
        """
        with room(self.root):
            descriptor, beside = tempfile.mkstemp(dir=scratch)
            partial = Partial(self, Path(beside), os.fdopen(descriptor, "w+b"))
            try:
                while partial.size < size:
                    block = source.read(min(BLOCK, size - partial.size))
                    if not block:
                        raise ToolError(f"{name!a} ended after {partial.size} of {size} bytes")
                    partial.write(block)
                return partial.keep()
            finally:
                partial.file.close()

    def assemble(self, hexdigest: str, files: Mapping[str, Path]) -> Path:
        """Create the tree of this dirHash from `{path: file}`; it appears complete, by a rename."""
        tree = self.tree(hexdigest)
        with self.scratch() as folder, room(self.root):
            tree.parent.mkdir(parents=True, exist_ok=True)
            beside = folder / "tree"
            beside.mkdir()
            beside.chmod(0o755)
            for path, source in files.items():
                (beside / path).parent.mkdir(parents=True, exist_ok=True)
                link(source, beside / path)
            try:
                beside.rename(tree)
            except OSError as error:
                # Another process has made the same tree meanwhile.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not tree.is_dir():
                    raise
        return tree


class Partial:
    """A file on its way into the store; its content is hashed as it is written."""

    def __init__(self, store: Store, path: Path, file: BinaryIO) -> None:
        self._store = store
        self.path = path
        self.file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def resume(self, on_bytes: Callable[[int], None]) -> None:
        """Hash what an earlier attempt left, so that writing can continue after it."""
        self.file.seek(0)
        while block := self.file.read(BLOCK):
            self._digest.update(block)
            self.size += len(block)
            on_bytes(len(block))

    def restart(self) -> None:
        """Truncate the file, and begin again."""
        self.file.seek(0)
        self.file.truncate()
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, block: bytes) -> None:
        """Append a block, and hash it."""
        self.file.write(block)
        self._digest.update(block)
        self.size += len(block)

    @property
    def sha256(self) -> str:
        """The digest of everything written so far."""
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Remove the file, because its content is wrong."""
        self.path.unlink(missing_ok=True)

    def keep(self) -> FileFact:
        """Move the file to its place in the store, and return its facts."""
        target = self._store.file(self.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.file.flush()
        os.fsync(self.file.fileno())
        os.fchmod(self.file.fileno(), 0o444)
        self.path.rename(target)
        return FileFact(self.size, self.sha256)


@contextlib.contextmanager
def room(folder: Path) -> Iterator[None]:
    """Raise a plain ToolError if the disk is full or cannot be written to."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ToolError(
                f"the disk is full: {folder}\npartial downloads are kept",
                hint="make room, or put AICERT_CACHE on another disk; then run it again",
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EIO):
            raise ToolError(f"cannot write to {folder}: {why(error)}") from None
        raise


def link(source: Path, target: Path) -> None:
    """Create `target` with the bytes of `source`, without storing them twice if possible."""
    try:
        os.link(source, target)
        return
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    with source.open("rb") as read, target.open("wb") as write:
        try:
            fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, write, BLOCK)


def _drop_empty(path: Path, file: BinaryIO) -> None:
    """Remove a partial file if it is empty, while it is locked: there is nothing to resume."""
    with contextlib.suppress(OSError):
        file.flush()
        status = os.fstat(file.fileno())
        if not status.st_size and os.path.samestat(status, path.stat()):
            path.unlink()


def _locked(path: Path) -> BinaryIO:
    while True:
        file = path.open("a+b")
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        # The process that held the lock has moved or removed the file: begin with a new one.
        file.close()
