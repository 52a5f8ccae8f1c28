"""The machine's console: a stream of lines that ends when the machine does, or its last lines.

The runner writes its events there (enclave_runner/boot/init.py), between the kernel's messages.
Every byte is hostile: it is bounded, and read only for events and for the machine's end.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable

from aicert.errors import AicertError, ToolError
from aicert.formats.machine_io import MAX_EVENT
from rules.host.progress import seconds

# The kernel's last messages, at a level that `quiet` lets through. After a panic it resets and
# would boot again.
_END = re.compile(
    rb"reboot: (?:Power down|System halted|Restarting system)|Kernel panic - not syncing"
)
_TERMINAL = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]")
_KEPT = 12
_HELD = 1 << 16


class ConsoleStream:
    """Waits for lines of the console; ends with the machine.

    `more` returns the output since the last call. Raises ToolError if the machine prints nothing
    within `boot_s`, or has not ended within `limit_s`. After every `ask_s` of silence `is_off` is
    called, because a console may lose its last lines.
    """

    def __init__(
        self,
        more: Callable[[], bytes],
        *,
        boot_s: float,
        limit_s: float,
        look_s: float = 5.0,
        is_off: Callable[[], bool] = lambda: False,
        ask_s: float = 60.0,
    ) -> None:
        self._more = more
        self._is_off, self._ask_s = is_off, ask_s
        self._asked = time.monotonic()
        self._began = time.monotonic()
        self._boot_s, self._limit_s, self._look_s = boot_s, limit_s, look_s
        self._buffer = b""
        self._shown = False
        self._ended = False
        self._gone = False
        self._last: list[str] = []
        # Never set: a wait that Ctrl-C can interrupt.
        self._never = threading.Event()

    def readline(self, most: int = MAX_EVENT) -> bytes:
        """Return the next line, or part of a long one; empty when the machine has ended."""
        while not self._ended:
            line, feed, _ = self._buffer.partition(b"\n")
            if feed or len(self._buffer) >= most:
                whole = (line + feed)[:most]
                self._buffer = self._buffer[len(whole) :]
                return self._seen(whole)
            data = self._more()
            if data:
                self._shown = True
                self._asked = time.monotonic()
                self._buffer += data
            elif _END.search(self._buffer):
                return self._seen(self._buffer)
            elif self._has_gone():
                # Read what it printed meanwhile.
                self._buffer += self._more()
                self._ended = b"\n" not in self._buffer
            else:
                self._wait()
        return b""

    def _has_gone(self) -> bool:
        """Whether it is off without saying so; checked now and then, once it has booted."""
        if self._gone or not self._shown or time.monotonic() - self._asked < self._ask_s:
            return self._gone
        self._gone = self._is_off()
        self._asked = time.monotonic()
        return self._gone

    def _wait(self) -> None:
        passed = time.monotonic() - self._began
        if not self._shown and passed > self._boot_s:
            raise ToolError(
                f"the machine printed nothing to its console within {seconds(self._boot_s)}: "
                "it did not boot",
                hint="./doit certify --keep, then see its boot diagnostics in the portal",
            )
        if passed > self._limit_s:
            raise ToolError(
                f"the machine did not finish within {seconds(self._limit_s)}\n{self.tail()}"
            )
        self._never.wait(self._look_s)

    def _seen(self, line: bytes) -> bytes:
        text = _TERMINAL.sub("", line.decode("utf-8", "replace")).strip()
        if text and not text.startswith("{"):
            self._last = [*self._last[1 - _KEPT :], text]
        self._ended = _END.search(line) is not None
        return line

    def tail(self) -> str:
        """Return the last lines that are not events."""
        return "\n".join(self._last)


class Signs:
    """The console and the state of a machine that serves, whose events nobody follows there.

    `more` and `is_off` are as in `ConsoleStream`; `is_off` is called at most every `ask_s`.
    """

    def __init__(
        self, more: Callable[[], bytes], *, is_off: Callable[[], bool], ask_s: float = 60.0
    ) -> None:
        self._more, self._is_off, self._ask_s = more, is_off, ask_s
        self._asked = time.monotonic()
        self._held = b""
        self._ended = False
        # Who calls the machine looks for its end, and who ends serving reads the last lines.
        self._lock = threading.Lock()

    def has_ended(self) -> bool:
        """Whether the console or Azure says that the machine is off."""
        self._read()
        if not self._ended and time.monotonic() - self._asked >= self._ask_s:
            self._ended = self._is_off()
            self._asked = time.monotonic()
        return self._ended

    def last_lines(self) -> str:
        """Return the console's last lines, if it can be read."""
        self._read()
        text = _TERMINAL.sub("", self._held.decode("utf-8", "replace"))
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "\n".join(lines[-_KEPT:])

    def _read(self) -> None:
        with self._lock, contextlib.suppress(AicertError):
            while data := self._more():
                self._held = (self._held + data)[-_HELD:]
                self._ended = self._ended or _END.search(self._held) is not None
