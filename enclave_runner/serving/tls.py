"""One TLS 1.3 connection of a serving machine, and what binds evidence to it.

The key is made in memory at each boot and never leaves it. No tickets and no resumption: each
connection shows the key anew, and has an exporter of its own (RFC 9266). Everything waits until a
deadline that the caller sets, so that a client who sends a byte a minute holds nothing for long.

The library is pyOpenSSL: Python's `ssl` has no exporter.
"""

import datetime
import functools
import hashlib
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from aicert.frozen import dataclass
from aicert.lease import keys
from aicert.lease.serving import EXPORTER_BYTES, EXPORTER_LABEL
from enclave_runner.serving.wire import ChannelError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

T = TypeVar("T")
_STEP: Final = 1 << 16
# Nobody believes the certificate's dates: what it is worth is said by evidence.
_VALID_DAYS: Final = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A boot's TLS key. `spki`: its SubjectPublicKeyInfo (DER)."""

    key: "EllipticCurvePrivateKey"
    certificate: x509.Certificate
    spki: bytes

    @property
    def boot(self) -> str:
        """How receipts and orders call this boot: SHA-256 of the SPKI, in hex."""
        return hashlib.sha256(self.spki).hexdigest()


def make_identity() -> Identity:
    """A fresh key, and a certificate that says nothing of it."""
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
    """What the machine's connections are made with."""
    context = _context()
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.key)
    return context


def _context() -> Any:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    return context


class Channel:
    """A connection after its handshake. `until`: seconds of time.monotonic() until which it waits;
    ChannelError afterwards.
    """

    def __init__(self, context: Any, connected: socket.socket, until: float) -> None:
        self._socket = connected
        self._tls = SSL.Connection(context, None)
        self.until = until
        self._tls.set_accept_state()
        try:
            self._whenever(self._tls.do_handshake)
        except SSL.ZeroReturnError:
            raise ChannelError("the other end left within the handshake") from None
        self._flush()
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
        for start in range(0, len(data), _STEP):
            self._send(data[start : start + _STEP])

    def _send(self, part: bytes) -> None:
        while part:
            sent = self._whenever(functools.partial(self._tls.send, part))
            part = part[sent:]
            self._flush()

    def close(self) -> None:
        """Say that nothing follows, where that can be said at once; then no more."""
        try:
            self._tls.shutdown()
            self._socket.settimeout(0)
            self._socket.send(self._tls.bio_read(_STEP))
        except (SSL.Error, OSError):
            # The other end is gone already, or does not read.
            pass
        finally:
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
                raise ChannelError(f"the other end does not speak TLS 1.3: {error}") from None

    def _more(self) -> bytes:
        try:
            self._socket.settimeout(self._left())
            data = self._socket.recv(_STEP)
        except OSError as error:
            raise ChannelError(f"the connection ended: {error}") from None
        if not data:
            raise ChannelError("the other end closed the connection")
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
                raise ChannelError(f"the connection ended: {error}") from None

    def _left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise ChannelError("the other end took too long")
        return left
