"""Show progress while a large model is read, on standard error, once it has taken a while.

It is a bar on a terminal, and one line elsewhere. Files are not counted before that, since a small
model is read faster than its files can be counted.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Self

# Seconds of reading before anything is printed.
BAR_AFTER = 1.0
# No model has more files than this, and the directory is not trusted yet.
MAX_COUNTED = 100_000


class Progress:
    """Reports progress in reading `model`. `say` writes a line to standard error.

    `on_bytes` may be called from any thread.
    """

    def __init__(self, model: str | None, say: Callable[[str], None]) -> None:
        self._say = say
        self._model = model
        self._due = time.monotonic() + BAR_AFTER
        self._read = 0
        self._said = False
        self._advance: Callable[[int], None] = _nothing
        self._stop: Callable[[], None] = _nothing
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def on_bytes(self, count: int) -> None:
        """Count bytes that were read."""
        if time.monotonic() < self._due:
            # This is called for each of many small files, so it takes no lock, although a count may
            # be lost.
            self._read += count
            return
        with self._lock:
            if not self._said:
                self._said = True
                self._begin()
            self._advance(count)

    def _begin(self) -> None:
        size = 0 if self._model is None else _tree_size(self._model)
        if sys.stderr is None or not sys.stderr.isatty():
            self._say(f"reading the model, {size / 2**30:.1f} GiB\n")
            return
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        task = bar.add_task("reading the model", total=size, completed=self._read)
        self._advance = lambda count: bar.advance(task, count)
        self._stop = bar.stop
        bar.start()

    def __exit__(self, *_: object) -> None:
        self._stop()


def _nothing(*_: object) -> None:
    """Do nothing; used while there is no progress bar."""


def _tree_size(root: str) -> int:
    """Return roughly how many bytes there are to read; errors are left for the reader to report."""
    with contextlib.suppress(OSError):
        if os.path.isfile(root):
            return os.path.getsize(root)
    total = seen = 0
    # os.walk recurses, and there may be thousands of nested folders.
    waiting = [root]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MAX_COUNTED:
                        return total
                    total += entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except (OSError, ValueError):
            continue
    return total
