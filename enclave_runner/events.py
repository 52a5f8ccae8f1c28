"""Send events to the host while the runner works: one JSON object per line, on one descriptor.

Nothing here is evidence. The host treats every line as hostile; a host that stops reading loses
only its progress bar.
"""

import os
import threading
import time
from typing import Final

from aicert.formats import machine_io

# The least time between two lines of progress. People cannot see more, and 50,000 small files must
# not become 50,000 lines.
_INTERVAL_S: Final = 0.1


class Events:
    """Writes events to `fd`, until the reader has gone."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def error(self, message: str, hint: str | None, exit_code: int) -> None:
        """Send the reason why the run ended.

        It is cut until it fits on a line, since without it the host would know only an exit code.
        """
        for length in (2000, 500, 150):
            facts = {"message": message[:length], "hint": hint and hint[:length]}
            line = machine_io.emit_event(machine_io.ERROR, facts | {"exitCode": exit_code})
            if len(line) <= machine_io.MAX_EVENT:
                break
        self._write(line)

    def send(self, kind: str, **facts: str | float | None) -> None:
        """Send one event; a line longer than the bound is dropped, never cut."""
        self._write(machine_io.emit_event(kind, facts))

    def _write(self, line: bytes) -> None:
        if self._fd is None or len(line) > machine_io.MAX_EVENT:
            return
        try:
            os.write(self._fd, line)
        except BrokenPipeError:
            self._fd = None


class Counter:
    """Counts the bytes done of a total, and reports them at a bounded rate.

    Several threads may call `add`.
    """

    def __init__(self, events: Events, kind: str, total: int) -> None:
        self._events = events
        self._kind = kind
        self._total = total
        self._done = 0
        self._sent = 0.0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Add `count` bytes that are done."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if self._done < self._total and now - self._sent < _INTERVAL_S:
                return
            self._sent = now
            self._events.send(self._kind, done=self._done, total=self._total)
