"""A local OpenAI endpoint: its clients need to know nothing about leases, machines or evidence.

It listens only on this computer's loopback. It forwards a request's method, route and body; a key
that a client sends stays here. The answer was read in its only form (`wire`), so nothing can send a
client elsewhere. The first evidence that says no, or cannot be judged, ends the endpoint: every
later request is refused, and nothing is sent to the machine any more.
"""

import hashlib
import json
import secrets
import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final, Self

from aicert.errors import AicertError, ConfigError, EvidenceError
from aicert.formats.digest import Digest, of_bytes
from aicert.lease.checks import RefusedError
from aicert.serving import wire
from aicert.serving.connections import MOST, Judged, Pool, Shown, TargetMachine, open_judged

if TYPE_CHECKING:
    from aicert.leasing.serving import Served

LOOPBACK: Final = "127.0.0.1"
# The most that a gateway reads of one request, in bytes.
MAX_BODY: Final = 1 << 20
# How many local connections may be open, how long one may be silent, and how long a request waits
# for its turn.
CLIENTS: Final = 256
SILENCE_S: Final = 600.0
QUEUE_S: Final = 60.0
_HTTP: Final = 80
_OK: Final = 200
_METHODS: Final = {"/v1/models": "GET"}
Keep = Callable[[bytes], None]


class LocalRefusal(AicertError):  # noqa: N818 - says what happened
    """A local request that is not forwarded. `status`: the HTTP status for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Endpoint:
    """The listening endpoint; several threads may call it.

    `served`: what was verified about the machine before anything was asked. If there is a `keep`, a
    receipt of each answer is requested and verified before the answer ends, and passed to `keep`.
    """

    def __init__(self, machine: TargetMachine, port: int = 0, keep: Keep | None = None) -> None:
        if not 0 <= port < 1 << 16:
            raise ConfigError(
                "a port is from 1 to 65535, or 0 for any that is free", hint="--port 8080"
            )
        self._machine = machine
        self._keep = keep
        first = open_judged(machine)
        first.close()
        self._shown: Shown = first.shown
        self._pool = Pool(self._opened)
        self._rooms = threading.BoundedSemaphore(MOST)
        self._over = threading.Event()
        self.error: AicertError | None = None
        """The reason why nothing is sent to the machine any more, None as long as requests are."""
        try:
            self._server = _Server((LOOPBACK, port), self)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {LOOPBACK}:{port}: {error.strerror}", hint="--port 0"
            ) from None
        self.port: int = self._server.server_address[1]
        """The port on which the endpoint listens."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="endpoint", daemon=True
        )
        self._thread.start()

    @property
    def served(self) -> "Served":
        """Return what was first verified about the machine; every later connection is to the same
        boot.
        """
        return self._shown.served

    @property
    def base_url(self) -> str:
        """Return the base URL for OpenAI's clients."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def wait(self) -> None:
        """Wait until nothing is sent to the machine any more; raises the reason."""
        self._over.wait()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Stop listening, and close the connections to clients and to the machine."""
        self._server.shutdown()
        self._server.end_all()
        self._pool.close()
        self._thread.join()
        self._over.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> Judged:
        """Open another judged connection; if its evidence does not pass, no more are opened."""
        self._require_no_end()
        try:
            return open_judged(self._machine, self._shown)
        except EvidenceError as error:
            self._end(error)
            raise

    def _end(self, error: AicertError) -> None:
        if self.error is None:
            self.error = error
        self._over.set()

    def _require_no_end(self) -> None:
        if self.error is not None:
            # A new error each time, because the traceback of one would grow with every request.
            raise self.error.with_traceback(None)

    def forward(self, method: str, target: str, body: bytes, client: "_Client") -> None:
        """Ask the machine, and give the answer to `client`."""
        self._require_no_end()
        if not self._rooms.acquire(timeout=QUEUE_S):
            raise LocalRefusal(503, "the endpoint works on other requests")
        try:
            with self._pool.taken() as judged:
                # The endpoint may have ended while this request waited for its turn.
                self._require_no_end()
                is_counted = self._keep is not None and target not in _METHODS
                nonce = secrets.token_hex(32) if is_counted else ""
                self._answer(judged, judged.ask(method, target, body, nonce=nonce), client)
        except EvidenceError as error:
            self._end(error)
            raise
        finally:
            self._rooms.release()

    def _answer(self, judged: Judged, head: wire.Head, client: "_Client") -> None:
        if head.length is not None:
            body = judged.whole(head)
            if head.status == _OK:
                self._kept(judged.receipt(head, of_bytes(body)))
            client.say(head.status, body)
            return
        client.begin_stream()
        digest = hashlib.sha256()
        for event in judged.events():
            digest.update(event)
            client.send_chunk(event)
        # Check the receipt before the end is sent: if it is invalid, the client never sees the
        # answer's end.
        self._kept(judged.receipt(head, Digest("sha256", digest.hexdigest())))
        client.send_chunk(b"")

    def _kept(self, receipt: bytes) -> None:
        if receipt and self._keep is not None:
            self._keep(receipt)


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The server for local connections; each has a thread, which ends with the process."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Client)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether there is room for another connection."""
        with self._lock:
            if len(self._open) >= CLIENTS:
                return False
            self._open.add(request)
            return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
            super().shutdown_request(request)

    def end_all(self) -> None:
        """Stop listening; connected clients see the end, and their threads end too."""
        self.server_close()
        with self._lock:
            for connected in self._open:
                try:
                    connected.shutdown(socket.SHUT_RDWR)
                except OSError:
                    # The connection ended by itself.
                    continue


class _Client(BaseHTTPRequestHandler):
    """One local connection."""

    protocol_version = "HTTP/1.1"
    timeout = SILENCE_S
    disable_nagle_algorithm = True
    server: _Server
    _begun = False

    def handle(self) -> None:
        """Handle the client's requests until it leaves."""
        try:
            super().handle()
        except OSError:
            # The client left or does not read, so its answer is dropped.
            self.close_connection = True

    def do_GET(self) -> None:
        self._asked()

    def do_POST(self) -> None:
        self._asked()

    def _asked(self) -> None:
        self._begun = False
        try:
            body = self._read()
            self.server.endpoint.forward(self.command, self.path, body, self)
        except LocalRefusal as refused:
            self._refuse(refused.status, refused.message, "endpoint")
        except AicertError as error:
            kind = error.check if isinstance(error, RefusedError) else "endpoint"
            self._refuse(502, error.message, kind)

    def _read(self) -> bytes:
        """Return the request's body, if it may be forwarded."""
        endpoint = self.server.endpoint
        names = {f"{name}:{endpoint.port}" for name in (LOOPBACK, "localhost")}
        if endpoint.port == _HTTP:
            # Clients leave out port 80.
            names |= {LOOPBACK, "localhost"}
        given = self.headers.get_all("host") or []
        # Refuse a web page of another origin: somebody may have pointed its name at this computer.
        if len(given) != 1 or given[0].lower() not in names or "origin" in self.headers:
            raise LocalRefusal(403, "the endpoint is only for programs on this computer")
        if self.request_version != self.protocol_version:
            raise LocalRefusal(400, "the request is not of HTTP/1.1")
        if self.path not in endpoint.served.terms.routes:
            raise LocalRefusal(404, "this lease has no such route")
        if self.command != _METHODS.get(self.path, "POST"):
            raise LocalRefusal(405, f"the route takes {_METHODS.get(self.path, 'POST')}")
        lengths = self.headers.get_all("content-length") or ["0"]
        if len(lengths) != 1 or not _is_number(lengths[0]) or "transfer-encoding" in self.headers:
            raise LocalRefusal(411, "a request has one content-length, and no transfer-encoding")
        if int(lengths[0]) > MAX_BODY:
            raise LocalRefusal(413, f"a request is larger than {MAX_BODY} bytes")
        body = self.rfile.read(int(lengths[0]))
        if len(body) != int(lengths[0]):
            raise ConnectionResetError("the connection ended in the middle of a request")
        if self.command == "GET" and body:
            raise LocalRefusal(400, "a request for the list of models must not have a body")
        return body

    def say(self, status: int, body: bytes) -> None:
        """Send a complete answer."""
        self.send_response_only(status)
        self.send_header("content-type", wire.JSON)
        self.send_header("content-length", str(len(body)))
        if self.close_connection:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        """Send the head of an answer that is a stream of events."""
        self._begun = True
        self.send_response_only(200)
        self.send_header("content-type", wire.EVENTS)
        self.send_header("transfer-encoding", "chunked")
        self.send_header("cache-control", "no-store")
        self.end_headers()

    def send_chunk(self, data: bytes) -> None:
        """Send an event; an empty one ends the answer."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _refuse(self, status: int, message: str, kind: str) -> None:
        """Tell the client why there is no answer.

        If an answer has begun, nothing can be added to it, so it ends without its end marker.
        """
        self.close_connection = True
        if not self._begun:
            error = {"message": message, "type": kind, "code": kind}
            self.say(status, json.dumps({"error": error}).encode("ascii"))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send the library's own refusals, in the same form as all other errors."""
        # The refusal is about a request that was not read yet; the previous answer was complete.
        self._begun = False
        self.request_version = self.protocol_version
        self._refuse(int(code), message or "the request is not of HTTP/1.1", "endpoint")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Log nothing: requests are private."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
