"""An engine that answers what a test wants: one word per token, and any `usage`."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from aicert.errors import ToolError
from enclave_runner.serving.engine import SOCKET, Engine

WORDS = ("one", " two", " three")
Say = Callable[[dict[str, Any]], Iterator[bytes]]


def event(text: str = "", reason: str | None = None, usage: Any = None, route: str = "") -> bytes:
    """Return one event of a stream, as `transformers serve` writes it."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    if route.endswith("/chat/completions"):
        choice["delta"] = {"content": text} if text else {}
    else:
        choice["text"] = text
    document = {"id": "x", "choices": [choice], "usage": usage, "secret": "of the engine"}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


@dataclass
class StubEngine:
    """An engine for tests. `say` replaces the usual answer, and `status` is that of every answer.
    `asked` has the bodies of the requests. With `loads`, it loads until it is killed.
    """

    folder: Path
    say: Say | None = None
    status: int = 200
    model: str = "/aicert/model"
    asked: list[dict[str, Any]] = field(default_factory=list)
    alive: bool = True
    loads: bool = False
    loading: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def engine(self) -> Engine:
        return Engine(self.folder, wait_s=60)

    def give(self, files: Mapping[str, Path]) -> "StubEngine":
        """Record the model's files, as `running.Running` gets them."""
        self.files = files
        return self

    def await_ready(self) -> None:
        assert self.engine.is_there()
        if self.loads:
            self.loading.set()
            assert self.held.wait(600)
            raise ToolError("the engine exited before it was ready")

    def is_alive(self) -> bool:
        return self.alive

    def kill(self) -> None:
        self.alive = False
        self.held.set()

    def answer(self, route: str, body: dict[str, Any]) -> Iterator[bytes]:
        """Yield the usual answer: as many words as fit, then the usage."""
        if self.say is not None:
            yield from self.say(body)
            return
        words = WORDS[: body["max_tokens"]]
        for word in words:
            yield event(word, route=route)
        usage = {"prompt_tokens": 7, "completion_tokens": len(words)}
        yield event(reason="stop", usage=usage, route=route)
        yield b"data: [DONE]\n\n"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def running(folder: Path) -> Iterator[StubEngine]:
    """Run a stub whose socket is in `folder`."""
    stub = StubEngine(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.asked.append(body)
            self.send_response(stub.status)
            self.send_header("Connection", "close")
            self.end_headers()
            if stub.status != 200:
                return
            try:
                for line in stub.answer(self.path, body):
                    self.wfile.write(line)
            except BrokenPipeError:
                return

        def log_message(self, *_: object) -> None:
            return

        def address_string(self) -> str:
            return ""

    # A socket's path must be short, and the path of a test's folder may be long.
    place = folder / SOCKET
    with _Server(str(place), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield stub
        finally:
            stub.held.set()
            server.shutdown()
            thread.join()
