"""The folder for one execution of a run: protected by a lock, and emptied before it is reused.

`kill -9` leaves the folder behind but releases the lock. The next execution of that run then
empties the folder, so nothing unfinished is ever taken for a result.
"""

import fcntl
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rules.host.file_lock import alone, free
from rules.host.progress import say

RUNS = Path(".aicert") / "runs"
READING = Path(".aicert") / "reading.lock"
# Every command that runs tasks shares this; `./doit clean` removes caches only if nobody holds it.
USING = Path(".aicert") / "using.lock"


@contextmanager
def work_folder(root: Path, run: str) -> Iterator[Path]:
    """Yield an empty folder on the repository's disk, and remove it afterwards. There is one at a
    time for each run.
    """
    home = root / RUNS / run
    with only_one(home / "lock", f"run {run} is being certified by another process"):
        work = home / "work"
        remove(work)
        work.mkdir()
        try:
            yield work
        finally:
            remove(work)


@contextmanager
def only_one(lock: Path, reason: str) -> Iterator[None]:
    """Hold the file `lock`. If another process holds it, print the `reason` and wait."""
    with alone(lock, lambda: say(f"{reason}: waiting (fuser {shlex.quote(str(lock))} shows it)")):
        yield


@contextmanager
def held(path: Path, *, alone: bool = False) -> Iterator[None]:
    """Share `path` with other users of it: `./doit clean` does not remove what is held.

    `alone`: share it with nobody, and wait until nobody else holds it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def using(root: Path) -> Iterator[None]:
    """Hold this while tasks run, so that their databases are not removed."""
    (root / USING).parent.mkdir(exist_ok=True)
    (root / USING).touch()
    with held(root / USING):
        yield


@contextmanager
def unused(root: Path) -> Iterator[bool]:
    """Whether no tasks run in this checkout; none start until the block ends."""
    with free(root / USING) as is_free:
        yield is_free


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """Hold this while a machine reads inputs: relinking them would look like a change."""
    (root / READING).parent.mkdir(exist_ok=True)
    (root / READING).touch()
    with held(root / READING):
        yield


@contextmanager
def unread(root: Path) -> Iterator[bool]:
    """Whether no machine reads inputs of this checkout; none starts to until the block ends."""
    with free(root / READING) as is_free:
        yield is_free


def sweep(root: Path, run: str) -> None:
    """Remove what a killed execution left, even if nothing will run now."""
    if (root / RUNS / run / "work").exists():
        with locked(root, run) as home:
            if home is not None:
                remove(home / "work")


@contextmanager
def locked(root: Path, run: str) -> Iterator[Path | None]:
    """Yield the run's own folder, locked; None if another process holds it."""
    home = root / RUNS / run
    with free(home / "lock") as is_free:
        yield home if is_free else None


def remove(path: Path) -> None:
    """Remove a tree, even with read-only directories. A link is removed, never its target."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    os.chmod(path, 0o700)
    for folder, names, _ in os.walk(path):
        # Before listing: a folder that we may not read looks empty.
        for name in names:
            if not os.path.islink(inner := os.path.join(folder, name)):
                os.chmod(inner, 0o700)
    shutil.rmtree(path)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is complete or absent: write beside it, flush, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.[0-9]*"):
        # Left by a process that was killed meanwhile.
        if not Path("/proc", left.suffix[1:]).exists():
            left.unlink(missing_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def is_held(descriptor: int) -> bool:
    """Whether somebody holds or shares a lock on this open file, which is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
