"""One time limit for a whole exchange over HTTP, from the connection to the last byte.

Limits for single reads do not bound an exchange: who sends a byte of the headers now and then keeps
to them for ever. When the time is up, the connections are shut down from another thread, so that
whatever waits for them ends.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from aicert.errors import ToolError

# What httpx2 reports to the `trace` of a request when it has made a connection.
_CONNECTED: Final = ("connection.connect_tcp.complete", "connection.start_tls.complete")


class Deadline:
    """The connections of one client, whose exchanges follow one another."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_over = False

    def watch(self, connected: socket.socket) -> None:
        """Shut this connection down, too, when the time is up."""
        with self._lock:
            # The socket below a connection with TLS is one of those that are closed.
            open_ = [one for one in self._sockets if one.fileno() >= 0]
            self._sockets = [*open_, connected]
            if self._is_over:
                _shut_down(connected)

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Watch the connections that httpx2 makes, as the `trace` of each request."""
        if event in _CONNECTED:
            self.watch(info["return_value"].get_extra_info("socket"))

    @contextlib.contextmanager
    def within(self, seconds: float, who: str) -> Iterator[None]:
        """End the exchange in this block after so many seconds. Raises ToolError if that was
        necessary, whatever the block raised.
        """
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception:
            self._check(who)
            raise
        finally:
            timer.cancel()
        # The end of a connection may look like that of an answer.
        self._check(who)

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            for connected in self._sockets:
                _shut_down(connected)

    def _check(self, who: str) -> None:
        with self._lock:
            if self._is_over:
                raise ToolError(f"{who} answers too slowly", hint="ask it again later") from None


def _shut_down(connected: socket.socket) -> None:
    # That of TLS would say goodbye to the other side first; a closed one has nothing to shut down.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
