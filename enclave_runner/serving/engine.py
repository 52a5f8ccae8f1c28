"""The engine as the gateway asks it: over a socket in its sandbox's scratch, one request at a time.

The engine is not trusted: whoever feeds it may have broken it. So its socket is opened as what it
is and followed nowhere, what it sends is bounded, and every wait ends. Left out: what it says,
which `answers` reads, and how it is started (`sandboxed`).
"""

import http.client
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from enclave_runner.serving.answers import MAX_LINE, EngineError

SOCKET: Final = "engine.sock"
# Until the first token of a long prompt, on a slow machine.
WAIT_S: Final = 600.0


class EngineRefusedError(EngineError):
    """The engine answers with an error instead of text: nothing was served."""


class Engine:
    """The engine whose socket is in `folder`."""

    def __init__(self, folder: Path, *, wait_s: float = WAIT_S) -> None:
        self._folder = folder
        self._wait_s = wait_s

    def is_there(self) -> bool:
        """Whether it answers the door."""
        try:
            self._connected().close()
        except (OSError, EngineError):
            return False
        return True

    @contextmanager
    def asked(self, route: str, body: bytes) -> Iterator[Iterator[bytes]]:
        """The lines of its answer. EngineRefusedError where it has none to give."""
        try:
            connection = _Connection(self._connected())
        except OSError as error:
            raise EngineError(f"the engine does not answer: {error}") from None
        try:
            yield self._lines(connection, route, body)
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"the engine ended: {error}") from None
        finally:
            connection.close()

    def _lines(self, connection: "_Connection", route: str, body: bytes) -> Iterator[bytes]:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", route, body, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise EngineRefusedError(f"the engine refuses the request: {answer.status}")
        while line := answer.readline(MAX_LINE + 1):
            yield line

    def _connected(self) -> socket.socket:
        """A connection to the socket itself: not to where a link leads, nor by a path that is too
        long for an address.
        """
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            place = os.open(SOCKET, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if not stat.S_ISSOCK(os.fstat(place).st_mode):
                raise EngineError("the engine's socket is something else")
            client.settimeout(self._wait_s)
            client.connect(f"/proc/self/fd/{place}")
        except BaseException:
            client.close()
            raise
        finally:
            os.close(place)
        return client


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("engine")
        self.sock = connected
