"""Serve the broker's application with uvicorn, over TLS 1.3 and nothing else. Extra: `broker`.

uvicorn writes no log: the application reports what goes wrong in a request, without values. uvicorn
would wait for ever for the head of a request; here, a connection on which no request arrives is
closed.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from aicert.broker.app import MAX_CONNECTIONS, MAX_HEAD
from aicert.errors import ConfigError, ToolError
from aicert.frozen import dataclass
from aicert.text import safe

# How long the head of a request may take, the first of a connection and every later one; before
# that, a connection on which nothing comes is closed in good order.
HEAD_S: Final = 20.0
_IDLE_S: Final = 10
_ENDS_S: Final = 10
# uvicorn's `log_level`: no message is that severe.
_SILENT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to listen, and the certificate (PEM, chain included) and key for TLS."""

    host: str
    port: int
    certificate: Path
    key: Path


class _Connection(H11Protocol):  # type: ignore[misc]
    """A connection that ends if a request does not arrive in time.

    Otherwise a few connections that ask nothing would keep everybody out.
    """

    def connection_made(self, transport: Any) -> None:
        """Start waiting for a request: the connection is open, TLS included."""
        super().connection_made(transport)
        self._expect()

    def handle_events(self) -> None:
        """Handle new data, and stop the timer if a request is complete."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._late.cancel()

    def on_response_complete(self) -> None:
        """Start waiting for the next request, which may have arrived already."""
        self._late.cancel()
        self._expect()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer: the connection is over."""
        self._late.cancel()
        super().connection_lost(exc)

    def _expect(self) -> None:
        # Abort, because a close would wait for the other end to close too.
        self._late = self.loop.call_later(HEAD_S, self.transport.abort)


def serve(app: Any, place: Place, on_ready: Callable[[int, Callable[[], None]], None]) -> None:
    """Serve until stopped.

    Once it listens, `on_ready` gets the port and a function that stops the server.
    """
    config = uvicorn.Config(
        app,
        host=place.host,
        port=place.port,
        ssl_certfile=str(place.certificate),
        ssl_keyfile=str(place.key),
        interface="asgi3",
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=_SILENT,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_ENDS_S,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the TLS certificate and key cannot be used: {error.strerror or 'they do not fit'}",
            hint="openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
            "-keyout tls.key -out tls.pem -subj /CN=custodian.example -days 90",
        ) from None
    # Python's default also accepts TLS 1.2.
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    server = uvicorn.Server(config)
    started = server.startup

    def end() -> None:
        server.should_exit = True

    async def startup(*words: Any, **more: Any) -> None:
        await started(*words, **more)
        on_ready(server.servers[0].sockets[0].getsockname()[1], end)

    server.startup = startup
    try:
        server.run()
    except SystemExit:
        raise ToolError(
            f"cannot listen on {safe(place.host)}:{place.port}", hint="--listen 127.0.0.1:8444"
        ) from None
