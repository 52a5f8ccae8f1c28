"""Messages between a courier and a machine that share no stream, but ask and answer.

    {"first":4,"taken":7}
    {"data":"…","kind":"heartbeat"}

The courier sends a parcel and gets one. A parcel starts with the number of its first line and the
number of lines that its sender has taken. What the other end has not taken yet is sent again, and
what arrives twice is taken once: a connection that breaks loses no message.
"""

import threading
from collections import deque
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.strict_json import Fields
from aicert.lease import courier

# The machine's route for parcels, beside those that clients use.
ROUTE: Final = "/aicert/courier"
KEY_BYTES: Final = 32
MAX_PARCEL: Final = 2 * courier.MAX_LINE
# Lines that the other end has not taken yet.
MOST_HELD: Final = 256
# Two numbers and their names.
_HEAD_BYTES: Final = 128


class Parcels:
    """One end. Several threads may use it."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._first = 1
        self._taken = 0
        self._changed = threading.Condition()

    def add(self, line: bytes) -> bool:
        """Send this line with the next parcel. Returns whether there was room for it."""
        with self._changed:
            if len(self._lines) >= MOST_HELD:
                return False
            self._lines.append(line)
            self._changed.notify_all()
            return True

    @property
    def held(self) -> int:
        """How many lines the other end has not taken."""
        return len(self._lines)

    def wait(self, seconds: float) -> None:
        """Wait until there is a line to send, for at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._lines), seconds)

    def wait_taken(self, seconds: float) -> bool:
        """Wait until the other end has taken every line. Returns whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines, seconds)

    def pack(self) -> bytes:
        """The next parcel: as many lines as fit, from the first that was not taken."""
        with self._changed:
            parts = [strict_json.dumps({"first": self._first, "taken": self._taken}) + b"\n"]
            size = len(parts[0])
            for line in self._lines:
                size += len(line)
                if size > MAX_PARCEL:
                    break
                parts.append(line)
            return b"".join(parts)

    def unpack(self, parcel: bytes, most: int = MOST_HELD) -> list[bytes]:
        """The lines of the other end's parcel that are new, at most so many. The others will be
        sent again. Raises EvidenceError if it is malformed or skips a line.
        """
        first, taken, lines = _parse(parcel)
        with self._changed:
            if first > self._taken + 1:
                raise EvidenceError("the parcel skips a line")
            if taken >= self._first + len(self._lines):
                raise EvidenceError("the parcel confirms a line that was not sent")
            while self._first <= taken:
                self._lines.popleft()
                self._first += 1
            new = lines[self._taken + 1 - first :][:most]
            self._taken += len(new)
            self._changed.notify_all()
            return new


def _parse(parcel: bytes) -> tuple[int, int, list[bytes]]:
    what = "the parcel"
    if len(parcel) > MAX_PARCEL or not parcel.endswith(b"\n"):
        raise EvidenceError(f"{what} is too large or ends early")
    head, *lines = parcel[:-1].split(b"\n")
    fields = Fields(strict_json.loads(head, what=what, max_bytes=_HEAD_BYTES), what)
    first, taken = fields.integer("first", low=1), fields.integer("taken")
    fields.done()
    return first, taken, [line + b"\n" for line in lines]
