"""Lines between a courier and its machine. The machine's messages arrive in a queue.

The machine is untrusted: a line of an unknown kind, or one that is too long, is an error. A machine
that sends faster than anybody reads has to wait. How a machine is started is elsewhere.
"""

import contextlib
import os
import queue
import threading
from typing import Final

from aicert.errors import AicertError, EvidenceError
from aicert.lease import courier
from aicert.lease.courier import Message

_STEP: Final = 1 << 16
# How many lines may wait to be read: a machine sends one each second.
MOST_HELD: Final = 256
_MOMENT_S: Final = 0.05
Heard = Message | AicertError | None


class Link:
    """Both ends of a machine's line; this object owns both descriptors. `heard` yields the
    machine's messages, an error for an invalid line, and None at the end.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self.heard: queue.Queue[Heard] = queue.Queue(MOST_HELD)
        self._thread = threading.Thread(target=self._read, name="courier", daemon=True)
        self._thread.start()

    def ask(self, message: Message) -> None:
        """Send one line. If the machine is gone, nothing happens here, and `heard` reports it."""
        line = courier.emit(message)
        try:
            while line:
                line = line[os.write(self._writing, line) :]
        except OSError:
            return

    def close(self) -> None:
        """Close both ends, once the machine has ended."""
        while self._thread.is_alive():
            # The reading thread may be waiting for space in the queue.
            with contextlib.suppress(queue.Empty):
                while True:
                    self.heard.get_nowait()
            self._thread.join(_MOMENT_S)
        os.close(self._reading)
        if self._writing != self._reading:
            os.close(self._writing)

    def _read(self) -> None:
        held = b""
        try:
            while data := os.read(self._reading, _STEP):
                *whole, held = (held + data).split(b"\n")
                for line in whole:
                    self._take(line + b"\n")
                if len(held) > courier.MAX_LINE:
                    self.heard.put(EvidenceError("the machine sent a line that is too long"))
                    held = b""
        except OSError:
            # The machine has closed its end.
            pass
        self.heard.put(None)

    def _take(self, line: bytes) -> None:
        try:
            self.heard.put(courier.parse(line, courier.TELLS))
        except EvidenceError as error:
            self.heard.put(error)
