"""The gateway's client for the engine: one request at a time over the socket in its scratch folder.

The engine is untrusted, because any prompt may have compromised it. So the socket is opened without
following links, the size of what it sends is bounded, and every wait has a limit. `answers` parses
what it sends; `running` starts it.
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
# Allows for the first token of a long prompt on a slow machine.
WAIT_S: Final = 600.0


class EngineRefusedError(EngineError):
    """Raised if the engine answers with an error instead of text, so that nothing was served."""


class Engine:
    """The engine whose socket is in `folder`."""

    def __init__(self, folder: Path, *, wait_s: float = WAIT_S) -> None:
        self._folder = folder
        self._wait_s = wait_s

    def is_there(self) -> bool:
        """Return whether the engine accepts connections."""
        try:
            self._connected().close()
        except (OSError, EngineError):
            return False
        return True

    @contextmanager
    def ask(self, route: str, body: bytes) -> Iterator[Iterator[bytes]]:
        """Send a request, and give the lines of the engine's answer.

        Raises EngineRefusedError if the engine answers with an error.
        """
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
            raise EngineRefusedError(f"the engine refused the request: {answer.status}")
        while line := answer.readline(MAX_LINE + 1):
            yield line

    def _connected(self) -> socket.socket:
        """Connect to the engine's socket, without following a link.

        The path may be longer than a socket address allows, so it is opened through /proc.
        """
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            place = os.open(SOCKET, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if not stat.S_ISSOCK(os.fstat(place).st_mode):
                raise EngineError("the engine's socket is not a socket")
            client.settimeout(self._wait_s)
            client.connect(f"/proc/self/fd/{place}")
        except BaseException:
            client.close()
            raise
        finally:
            os.close(place)
        return client


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a socket that is already open."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("engine")
        self.sock = connected
