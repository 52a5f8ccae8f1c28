"""The TLS 1.3 connections of a serving machine, and the value that binds evidence to each.

The key is made in memory at each boot and never leaves it. Each connection presents the key and has
an exporter of its own (`aicert.channel`).
"""

import datetime
import hashlib
import secrets
import socket
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from aicert.channel import tls
from aicert.frozen import dataclass
from aicert.lease import keys
from enclave_runner.serving.wire import ChannelError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

# A TLS record with an alert has about twenty bytes.
_ALERT: Final = 1 << 16
# Nobody relies on the certificate's dates: trust comes from the evidence.
_VALID_DAYS: Final = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A boot's TLS key. `spki` is its SubjectPublicKeyInfo (DER)."""

    key: "EllipticCurvePrivateKey"
    certificate: x509.Certificate
    spki: bytes

    @property
    def boot(self) -> str:
        """The name of this boot in receipts and orders: SHA-256 of the SPKI, in hex."""
        return hashlib.sha256(self.spki).hexdigest()


def make_identity() -> Identity:
    """Make a fresh key, and a certificate that claims nothing about it."""
    key = keys.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aicert serve")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1 + secrets.randbits(120))
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .sign(key, hashes.SHA256())
    )
    return Identity(key=key, certificate=certificate, spki=keys.spki_of(key.public_key()))


def server_context(identity: Identity) -> Any:
    """Return the TLS settings of the machine's connections."""
    context = tls.context()
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.key)
    return context


class Channel(tls.Channel):
    """A connection after its handshake.

    It waits until `until`, in seconds of time.monotonic(), and then raises ChannelError.
    """

    def __init__(self, context: Any, connected: socket.socket, until: float) -> None:
        connection = SSL.Connection(context, None)
        connection.set_accept_state()
        super().__init__(connection, connected, until, peer="the client", failure=ChannelError)

    def abort(self) -> None:
        """End it at once, from another thread: whoever waits for it gets a ChannelError."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It is already closed.
            return

    def close(self) -> None:
        """Send close_notify if that is possible at once, then close."""
        try:
            self._tls.shutdown()
            self._socket.settimeout(0)
            self._socket.send(self._tls.bio_read(_ALERT))
        except (SSL.Error, OSError):
            # The client has already left, or does not read.
            pass
        finally:
            super().close()
