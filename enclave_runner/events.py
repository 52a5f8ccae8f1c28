"""What the runner tells the host while it works: one JSON object a line, on a single descriptor.

Nothing here is evidence. The host treats every line as hostile; a host that stops reading only
loses its progress bar.
"""

import os
import threading
import time
from typing import Final

from aicert.formats import machine_io

# People cannot see more than this; 50,000 small files must not become 50,000 lines.
_INTERVAL_S: Final = 0.1


class Events:
    """Writes events to `fd`; silent once the reader has gone."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def error(self, message: str, hint: str | None, exit_code: int) -> None:
        """Why the run ended. It is cut until it fits, since without it the host would know only a
        number.
        """
        for length in (2000, 500, 150):
            facts = {"message": message[:length], "hint": hint and hint[:length]}
            line = machine_io.emit_event(machine_io.ERROR, facts | {"exitCode": exit_code})
            if len(line) <= machine_io.MAX_EVENT:
                break
        self._write(line)

    def send(self, kind: str, **facts: str | float | None) -> None:
        """One event; a line longer than the bound is dropped, never cut into something else."""
        self._write(machine_io.emit_event(kind, facts))

    def _write(self, line: bytes) -> None:
        if self._fd is None or len(line) > machine_io.MAX_EVENT:
            return
        try:
            os.write(self._fd, line)
        except BrokenPipeError:
            self._fd = None


class Counter:
    """Bytes done of a total, reported at a bounded rate; `add` may be called by several threads."""

    def __init__(self, events: Events, kind: str, total: int) -> None:
        self._events = events
        self._kind = kind
        self._total = total
        self._done = 0
        self._sent = 0.0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """`count` more bytes are done."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if self._done < self._total and now - self._sent < _INTERVAL_S:
                return
            self._sent = now
            self._events.send(self._kind, done=self._done, total=self._total)
