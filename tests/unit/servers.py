"""HTTP servers on 127.0.0.1 that answer as a test wants: plain, with TLS, and for git."""

import datetime
import ipaddress
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True, kw_only=True)
class Request:
    """A client's request."""

    method: str
    path: str
    query: str
    headers: Message
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The server's answer.

    With `cut`, the connection ends after so many bytes of the body; with `hold`, nothing is sent
    before the event is set, as by a server that stalls.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    hold: threading.Event | None = None


Answer = Callable[[Request], Reply]


class Site:
    """A running server: its address, the requests it got, and how many bytes it sent."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.sent = 0
        self._lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site._handle(self, answer)

            do_HEAD = do_POST = do_GET  # noqa: N815 - the names that http.server wants

            def log_message(self, *arguments: object) -> None:
                """Log nothing: tests read `requests`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.headers.get("Transfer-Encoding") == "chunked":
            while size := int(handler.rfile.readline().strip() or b"0", 16):
                body += handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
        path, _, query = handler.path.partition("?")
        request = Request(
            method=handler.command, path=path, query=query, headers=handler.headers, body=body
        )
        with self._lock:
            self.requests.append(request)
        reply = answer(request)
        data = b"" if request.method == "HEAD" else reply.body
        handler.send_response(reply.status)
        headers = {"Content-Length": str(len(reply.body))} | dict(reply.headers)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data if reply.cut is None else data[: reply.cut])
        if reply.hold is not None:
            handler.wfile.flush()
            reply.hold.wait(120)
        if reply.cut is not None:
            handler.close_connection = True
        with self._lock:
            self.sent += len(data) + sum(len(k) + len(v) + 4 for k, v in headers.items()) + 100


@contextmanager
def site(answer: Answer, context: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Run a server while the block does."""
    running = Site(answer, context)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def unfinished(beginning: bytes, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Answer each request with this, and then wait for the client to go away. Yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    plain, _ = listening.accept()
                    with (
                        plain
                        if context is None
                        else context.wrap_socket(plain, server_side=True) as connected
                    ):
                        connected.recv(1 << 16)
                        connected.sendall(beginning)
                        while connected.recv(1 << 16):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        scheme = "http" if context is None else "https"
        try:
            yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            # Wakes a thread that waits for a connection. Closing does not, and the thread would
            # then take connections of the next server that gets the same descriptor.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def nobody() -> Iterator[str]:
    """Return the URL of a port at which no server answers, and which nobody can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def ranged(request: Request, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with a file as servers do that support ranges (RFC 9110, 14)."""
    extra = dict(headers or {})
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range") or "")
    condition = request.headers.get("If-Range")
    if wanted is None or (condition is not None and condition != extra.get("ETag")):
        return Reply(body=body, headers=extra | {"Accept-Ranges": "bytes"})
    start = int(wanted[1])
    if start >= len(body):
        return Reply(status=416, headers=extra | {"Content-Range": f"bytes */{len(body)}"})
    part = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return Reply(status=206, body=body[start:], headers=extra | {"Content-Range": part})


def tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS context for 127.0.0.1, and the PEM of the CA that certifies it."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "ca.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = folder / "key.pem"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return context, pem


def git_backend(folder: Path) -> Answer:
    """Serve the repositories in `folder` by git's own CGI program."""
    program = Path(subprocess.check_output(["git", "--exec-path"], text=True).strip())

    def answer(request: Request) -> Reply:
        environment = os.environ | {
            "GIT_PROJECT_ROOT": str(folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(request.body)),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol") or "",
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding") or "",
        }
        done = subprocess.run(
            [program / "git-http-backend"],
            input=request.body,
            env=environment,
            capture_output=True,
            check=False,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200 OK").split()[0])
        return Reply(status=status, body=body, headers=headers)

    return answer


class Forge:
    """A repository behind https, with means to change it."""

    def __init__(self, folder: Path, running: Site) -> None:
        self.folder = folder
        self.site = running
        self.url = f"{running.url}/repo.git"
        self.source = f"git+{self.url}"

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self.folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", "change", "--allow-empty")
        return self.git("rev-parse", "HEAD")


@contextmanager
def served_forge(
    folder: Path, context: ssl.SSLContext, beside: Answer | None = None
) -> Iterator[Forge]:
    """Serve an empty repository with the real git; `beside` answers all other requests."""
    repository = folder / "served" / "repo.git"
    repository.mkdir(parents=True)
    backend = git_backend(folder / "served")

    def answer(request: Request) -> Reply:
        if beside is None or request.path.endswith(("/info/refs", "/git-upload-pack")):
            return backend(request)
        return beside(request)

    with site(answer, context) as running:
        forge = Forge(repository, running)
        forge.git("init", "-q", ".")
        (repository / ".git" / "git-daemon-export-ok").touch()
        yield forge
