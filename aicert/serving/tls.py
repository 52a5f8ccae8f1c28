"""The consumer's end of a TLS 1.3 connection, with what evidence must bind: key and exporter.

The handshake proves only that the other end holds the key that it shows; nothing else in its
certificate is believed.
"""

import socket
from typing import Any, Final

from OpenSSL import SSL, crypto

from aicert.channel import tls
from aicert.crypto import x509
from aicert.errors import ToolError
from aicert.lease import keys

_WHAT: Final = "the machine's TLS certificate"


class Channel(tls.Channel):
    """A connection after its handshake.

    `until`: the time, in seconds of time.monotonic(), until which it waits. Raises ToolError after
    that, and if the connection ends.
    """

    def __init__(self, connected: socket.socket, until: float) -> None:
        connection = SSL.Connection(_context(), None)
        connection.set_connect_state()
        super().__init__(connection, connected, until, peer="the machine", failure=ToolError)
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, connection.get_peer_certificate())
        key = x509.key_on(x509.read(der, _WHAT), "secp256r1", _WHAT)
        self.spki: bytes = keys.spki_of(key)

    def is_quiet(self) -> bool:
        """Return whether the other end has neither sent anything more nor left."""
        try:
            self._socket.settimeout(0)
            self._socket.recv(1, socket.MSG_PEEK)
            return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        try:
            # Look for data that came with the last answer and was not read.
            self._tls.recv(1)
        except SSL.WantReadError:
            return True
        except SSL.Error:
            return False
        return False

    def shut(self) -> None:
        """End the connection while another thread waits for it; that thread closes it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The connection ended by itself.
            return


def _context() -> Any:
    context = tls.context()
    # Evidence says whose key it is; no certificate authority is asked.
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    return context
