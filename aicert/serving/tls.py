"""A consumer's end of a TLS 1.3 connection, and what evidence has to bind: key and exporter.

The handshake proves only that the other end holds the key that it shows; nothing is believed of the
certificate around it. No older version, no tickets, no resumption: each connection has a key shown
anew and an exporter of its own (RFC 9266). Everything waits until a deadline that the caller sets.

The library is pyOpenSSL (extra `connect`): Python's `ssl` has no exporter.
"""

import functools
import socket
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from OpenSSL import SSL, crypto

from aicert.crypto import x509
from aicert.errors import ToolError
from aicert.lease import keys
from aicert.lease.serving import EXPORTER_BYTES, EXPORTER_LABEL

T = TypeVar("T")
_STEP: Final = 1 << 16
_WHAT: Final = "the machine's TLS certificate"


class Channel:
    """A connection after its handshake. `until`: seconds of time.monotonic() until which it waits;
    ToolError afterwards, and where the connection ends.
    """

    def __init__(self, connected: socket.socket, until: float) -> None:
        self._socket = connected
        self._tls = SSL.Connection(_context(), None)
        self._tls.set_connect_state()
        self.until = until
        try:
            self._whenever(self._tls.do_handshake)
        except SSL.ZeroReturnError:
            raise ToolError("the other end left within the handshake") from None
        self._flush()
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, self._tls.get_peer_certificate())
        key = x509.key_on(x509.read(der, _WHAT), "secp256r1", _WHAT)
        self.spki: bytes = keys.spki_of(key)
        self.exporter: bytes = self._tls.export_keying_material(EXPORTER_LABEL, EXPORTER_BYTES, b"")

    def receive(self, size: int) -> bytes:
        """Some bytes, at most so many; none once the other end closed the connection."""
        try:
            data: bytes = self._whenever(lambda: self._tls.recv(size))
        except SSL.ZeroReturnError:
            return b""
        return data

    def send(self, data: bytes) -> None:
        """All of them."""
        while data:
            sent = self._whenever(functools.partial(self._tls.send, data[:_STEP]))
            data = data[sent:]
            self._flush()

    def is_quiet(self) -> bool:
        """Whether the other end has neither said anything more nor left."""
        try:
            self._socket.settimeout(0)
            self._socket.recv(1, socket.MSG_PEEK)
            return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        try:
            # What came with the last answer, and was not looked at.
            self._tls.recv(1)
        except SSL.WantReadError:
            return True
        except SSL.Error:
            return False
        return False

    def shut(self) -> None:
        """End it while another thread waits for it: that thread closes it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It ended by itself.
            return

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _whenever(self, command: Callable[[], T]) -> T:
        """What the command gives once it has what it needs from the other end."""
        while True:
            try:
                return command()
            except SSL.WantReadError:
                self._flush()
                self._tls.bio_write(self._more())
            except SSL.ZeroReturnError:
                raise
            except SSL.Error as error:
                raise ToolError(
                    f"the other end does not speak TLS 1.3 as a serving machine does: {error}"
                ) from None

    def _more(self) -> bytes:
        try:
            self._socket.settimeout(self._left())
            data = self._socket.recv(_STEP)
        except OSError as error:
            raise ToolError(f"the connection to the machine ended: {error}") from None
        if not data:
            raise ToolError("the machine closed the connection")
        return data

    def _flush(self) -> None:
        """Send what TLS has to say by now."""
        while True:
            try:
                data = self._tls.bio_read(_STEP)
            except SSL.WantReadError:
                return
            try:
                self._socket.settimeout(self._left())
                self._socket.sendall(data)
            except OSError as error:
                raise ToolError(f"the connection to the machine ended: {error}") from None

    def _left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise ToolError("the machine took too long")
        return left


def _context() -> Any:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    # Whose key it is is said by evidence; no authority is asked.
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    return context
