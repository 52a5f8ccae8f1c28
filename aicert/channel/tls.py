"""TLS 1.3 over a socket, and the exporter that evidence binds (RFC 9266).

No older version, no tickets, no resumption: each connection shows the key anew and has an exporter
of its own. Every operation waits until a deadline that the caller sets and no longer, so a peer who
sends a byte a minute holds nothing for long.
"""

import functools
import socket
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from OpenSSL import SSL

from aicert.errors import AicertError
from aicert.lease.serving import EXPORTER_BYTES, EXPORTER_LABEL

T = TypeVar("T")
_STEP: Final = 1 << 16


def context() -> Any:
    """Return the settings with which either end makes its connections."""
    settings = SSL.Context(SSL.TLS_METHOD)
    settings.set_min_proto_version(SSL.TLS1_3_VERSION)
    settings.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    settings.set_options(SSL.OP_NO_TICKET)
    return settings


class Channel:
    """A connection after its handshake.

    `tls`: the TLS state, which knows which end this is. `until`: the deadline, in seconds of
    time.monotonic(). After it, and when the connection ends, methods raise `failure`, whose message
    calls the other end `peer`.
    """

    def __init__(
        self,
        tls: Any,
        connected: socket.socket,
        until: float,
        *,
        peer: str,
        failure: type[AicertError],
    ) -> None:
        self._tls = tls
        self._socket = connected
        self.until = until
        self._peer = peer
        self._failure = failure
        try:
            self._whenever(tls.do_handshake)
        except SSL.ZeroReturnError:
            raise failure(f"{peer} left during the handshake") from None
        self._flush()
        self.exporter: bytes = tls.export_keying_material(EXPORTER_LABEL, EXPORTER_BYTES, b"")

    def receive(self, size: int) -> bytes:
        """Return at most `size` bytes; none once the other end has closed the connection."""
        try:
            data: bytes = self._whenever(lambda: self._tls.recv(size))
        except SSL.ZeroReturnError:
            return b""
        return data

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        rest = memoryview(data)
        while rest:
            sent = self._whenever(functools.partial(self._tls.send, bytes(rest[:_STEP])))
            rest = rest[sent:]
            self._flush()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _whenever(self, command: Callable[[], T]) -> T:
        """Call `command` until it has what it needs from the other end; return its result."""
        while True:
            try:
                return command()
            except SSL.WantReadError:
                self._flush()
                self._tls.bio_write(self._more())
            except SSL.ZeroReturnError:
                raise
            except SSL.Error as error:
                raise self._failure(f"{self._peer} does not speak TLS 1.3: {error}") from None

    def _more(self) -> bytes:
        try:
            self._socket.settimeout(self._left())
            data = self._socket.recv(_STEP)
        except OSError as error:
            raise self._ended(error) from None
        if not data:
            raise self._failure(f"{self._peer} closed the connection")
        return data

    def _flush(self) -> None:
        """Send everything that TLS has to say by now."""
        while True:
            try:
                data = self._tls.bio_read(_STEP)
            except SSL.WantReadError:
                return
            try:
                self._socket.settimeout(self._left())
                self._socket.sendall(data)
            except OSError as error:
                raise self._ended(error) from None

    def _ended(self, error: OSError) -> AicertError:
        return self._failure(f"the connection to {self._peer} ended: {error}")

    def _left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise self._failure(f"{self._peer} took too long")
        return left
