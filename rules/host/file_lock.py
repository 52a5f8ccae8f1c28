"""A lock file that one process holds at a time; the next one is told that it waits.

Only the standard library is imported: set-up runs this before anything is installed.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(lock: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `lock`, created if missing. Calls `on_wait` if another process
    holds it.
    """
    with free(lock) as is_free:
        if is_free:
            yield
            return
    on_wait()
    with _opened(lock) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def free(lock: Path) -> Iterator[bool]:
    """Try to hold the lock file `lock`, created if missing. False if another process holds it."""
    with _opened(lock) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _opened(lock: Path) -> Iterator[int]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
