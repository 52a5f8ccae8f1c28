"""Bound the output of a sandbox: a log that is cut, and messages of one line each."""

from collections.abc import Callable
from typing import BinaryIO

MAX_MESSAGE = 256 * 1024


class CappedLog:
    """Writes up to `cap` bytes to a log, then a line that says so, and drops the rest."""

    def __init__(self, file: BinaryIO, cap: int) -> None:
        self._file = file
        self._left = cap
        self._start = b""
        self.truncated = False

    def take(self, data: bytes) -> None:
        self._start = (self._start + data[:400])[:400]
        self._file.write(data[: self._left])
        if len(data) > self._left and not self.truncated:
            self.truncated = True
            self._file.write(b"\n[the log is cut here: its limit is reached]\n")
        self._left = max(0, self._left - len(data))

    def first_line(self) -> str:
        return self._start.decode("utf-8", "replace").partition("\n")[0]


class Lines:
    """Passes on complete lines, and drops lines that are too long."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = b""
        self._skipping = False

    def take(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._skipping and len(line) <= MAX_MESSAGE:
                self._on_line(line)
            self._skipping = False
        if len(rest) > MAX_MESSAGE:
            rest, self._skipping = b"", True
        self._rest = rest
