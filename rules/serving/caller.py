"""A courier's line to a machine that it reaches by network alone: parcels over the machine's port.

A `Link` has one end of a pair of sockets, and a thread carries everything between the other end and
the machine. The machine's certificate says nothing, and nobody here believes what comes: who
judges the machine does so by what it signs.
"""

import contextlib
import http.client
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.frozen import dataclass
from aicert.lease.parcels import MAX_PARCEL, MOST_HELD, ROUTE, Parcels
from rules.host.progress import seconds
from rules.serving.link import Link

# An answer takes the machine a moment; a connection that is silent for longer is replaced.
_ANSWER_S: Final = 30.0
# A machine that served and cannot be reached for so long has ended.
GONE_S: Final = 60.0
_AGAIN_S: Final = 0.5
_STEP: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Callee:
    """Where the machine is, and how long it may be silent.

    `key`: in hex; the machine's `serve.json` has its SHA-256. `boots_s`: for how many seconds the
    machine may be silent until its first answer; `gone_s`: the same after that. `has_ended`:
    returns whether the machine is off; called until the first answer.
    """

    host: str
    port: int
    key: str
    boots_s: float
    gone_s: float = GONE_S
    has_ended: Callable[[], bool] = lambda: False


@contextlib.contextmanager
def calling(callee: Callee) -> Iterator[Link]:
    """Open the line to the machine. It ends when the machine has gone."""
    theirs, ours = socket.socketpair()
    end = theirs.detach()
    link = Link(end, end)
    caller = _Caller(callee, ours, link)
    try:
        yield link
    finally:
        caller.stop()
        link.close()


class _Caller:
    """The thread that asks the machine, again and again."""

    def __init__(self, callee: Callee, end: socket.socket, link: Link) -> None:
        self._callee = callee
        self._link = link
        self._end = end
        self._parcels = Parcels()
        self._held = b""
        self._over = threading.Event()
        self._connection: http.client.HTTPSConnection | None = None
        self._thread = threading.Thread(target=self._run, name="caller", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Carry nothing more."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        with self._end:
            try:
                if self._has_answered():
                    self._carry()
            except OSError:
                # Nobody listens here any more.
                pass
            except AicertError as error:
                with contextlib.suppress(queue.Full):
                    self._link.heard.put_nowait(error)
            finally:
                self._hang_up()

    def _has_answered(self) -> bool:
        """Wait for the machine's first answer. Returns whether it came before `stop`. Raises
        ToolError if the machine has ended, or is silent for too long.
        """
        until = time.monotonic() + self._callee.boots_s
        while not self._over.is_set():
            self._gather()
            if self._exchange():
                return True
            if self._callee.has_ended():
                raise ToolError("the machine powered off before it answered its courier")
            if time.monotonic() >= until:
                raise ToolError(
                    f"the machine did not answer at {self._callee.host}:{self._callee.port} within "
                    f"{seconds(self._callee.boots_s)}",
                    hint='clients = ["203.0.113.0/24"] of the machine, with this computer in it',
                )
            self._over.wait(_AGAIN_S)
        return False

    def _carry(self) -> None:
        until = time.monotonic() + self._callee.gone_s
        while not self._over.is_set() and time.monotonic() < until:
            self._gather()
            if self._exchange():
                until = time.monotonic() + self._callee.gone_s
            else:
                self._over.wait(_AGAIN_S)

    def _gather(self) -> None:
        """Take what the `Link` has written by now."""
        while select.select([self._end], [], [], 0)[0]:
            data = self._end.recv(_STEP)
            if not data:
                raise BrokenPipeError
            *whole, self._held = (self._held + data).split(b"\n")
            for line in whole:
                if not self._parcels.add(line + b"\n"):
                    raise ToolError(f"the machine has not taken {MOST_HELD} lines")

    def _exchange(self) -> bool:
        """One parcel each way. Returns whether the machine answered."""
        try:
            status, data = self._post(self._parcels.pack())
        except (OSError, http.client.HTTPException):
            self._hang_up()
            return False
        if status != http.client.OK:
            raise ToolError(f"the machine refuses its courier: {status}")
        for line in self._parcels.unpack(data):
            self._end.sendall(line)
        return True

    def _post(self, parcel: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                self._callee.host, self._callee.port, context=_context(), timeout=_ANSWER_S
            )
        self._connection.request(
            "POST", ROUTE, parcel, {"Authorization": f"Bearer {self._callee.key}"}
        )
        answer = self._connection.getresponse()
        data = answer.read(MAX_PARCEL + 1)
        if len(data) > MAX_PARCEL:
            raise EvidenceError("the machine's parcel is too large")
        return answer.status, data

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The machine's key is made at its boot, and its certificate is its own.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
