"""What the runner tells the host while it works: one JSON object a line, on one descriptor.

Nothing here is evidence. The host treats every line as hostile; a host that stops reading only
loses its progress bar.
"""

import json
import os
from typing import Final

MAX_LINE: Final = 4096


class Events:
    """Writes events to `fd`; silent once the reader has gone."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def send(self, kind: str, **facts: str | int | float | None) -> None:
        """One event; a line longer than the bound is dropped, never cut into something else."""
        line = json.dumps({"event": kind} | facts, separators=(",", ":")).encode() + b"\n"
        if self._fd is None or len(line) > MAX_LINE:
            return
        try:
            os.write(self._fd, line)
        except BrokenPipeError:
            self._fd = None
