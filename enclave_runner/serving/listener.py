"""Listen on the only inbound port: TLS connections, each in its own thread, up to a fixed number.

A client takes up a thread until its handshake is done or times out. When every thread is taken, a
new client is rejected at once, and those being served are not affected.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from enclave_runner.serving.tls import Channel
from enclave_runner.serving.wire import ChannelError

MOST: Final = 64
HANDSHAKE_S: Final = 10.0
_BACKLOG: Final = 64


class Listener:
    """Accepts connections on `address` until `stop`; `serve` gets each one after its handshake."""

    def __init__(
        self,
        address: tuple[str, int],
        context: Any,
        serve: Callable[[Channel], None],
        *,
        most: int = MOST,
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        self._server = socket.create_server(address, backlog=_BACKLOG)
        self.port: int = self._server.getsockname()[1]
        """The port that the listener listens on."""
        self._context = context
        self._serve = serve
        self._handshake_s = handshake_s
        self._rooms = threading.BoundedSemaphore(most)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_over = False
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)

    def start(self) -> None:
        """Start accepting connections."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and close every open connection at once."""
        with self._lock:
            self._is_over = True
            for each in (self._server, *self._open):
                _shut(each)
        self._thread.join()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._server.accept()
            except OSError:
                if self._is_over:
                    return
                # This one connection failed, or no descriptor is free at the moment.
                time.sleep(0.01)
                continue
            with self._lock:
                if self._is_over or not self._rooms.acquire(blocking=False):
                    connected.close()
                    continue
                self._open.add(connected)
            threading.Thread(target=self._one, args=(connected,), daemon=True).start()

    def _one(self, connected: socket.socket) -> None:
        try:
            channel = Channel(self._context, connected, time.monotonic() + self._handshake_s)
            self._serve(channel)
            channel.close()
        except ChannelError:
            # The client left or was too slow: there is nobody to answer.
            return
        finally:
            with self._lock:
                self._open.discard(connected)
                connected.close()
            self._rooms.release()


def _shut(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The socket is already closed.
        return
