"""Serving machines on ports of this computer, and servers that send whatever a test wants.

The machines have the real TLS, gateway and stub engine; the forger signs their evidence.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aicert.appraisal.policy import Policy
from aicert.lease import serving
from aicert.lease.terms import Terms
from aicert.leasing import serving as judging
from aicert.serving.connections import TargetMachine
from enclave_runner.serving import tls
from enclave_runner.serving.gateway import Gateway
from enclave_runner.serving.listener import Listener
from enclave_runner.serving.meter import Meter
from enclave_runner.serving.signer import Signer
from enclave_runner.serving.tls import Channel, Identity
from tests.adversarial.enrolment_forge import policy
from tests.e2e.serving.stub_engine import StubEngine
from tests.unit.aicert.leasing.test_serving import CERTIFIED, leased, machine
from tests.vectors.leases import LEASE

PROMPT = "the secret of the prompt"
MESSAGES = [{"role": "user", "content": PROMPT}]
LONG = 600.0
Forged = Callable[[bytes, judging.Channel], bytes]


@contextmanager
def kept_port() -> Iterator[int]:
    """Keep a port for servers that run one after the other.

    Between them no server listens, and no stranger can get the port: it stays bound, and a server
    that asks for it by number may still listen.
    """
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Run a server for one connection; it ends with the block."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        # The server ends even if no client comes, or the client leaves in the middle.
        with suppress(OSError), server.accept()[0] as connected:
            connected.settimeout(LONG)
            serve(connected)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        with suppress(OSError):
            # A shutdown wakes a thread that waits for a connection; a close does not.
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(LONG)
    assert not thread.is_alive()


def honest(nonce: bytes, channel: judging.Channel, **changes: Any) -> bytes:
    """Return the evidence of an honest machine."""
    given: dict[str, Any] = {"nonce": nonce, "bound": channel}
    return serving.emit(machine(**given | changes).signed())


@dataclass
class Machine:
    """A machine that serves until its block ends.

    `forged` makes its evidence; `seen` keeps what came over TLS.
    """

    stub: StubEngine
    identity: Identity = field(default_factory=tls.make_identity)
    forged: Forged = honest
    port: int = 0
    seen: list[bytes] = field(default_factory=list)
    connections: int = 0
    budget: int = 100
    signer: Callable[[Identity, Terms], Signer] = Signer

    def __post_init__(self) -> None:
        self._meter = Meter(lambda: None, tick_tokens=1000, budget=self.budget)
        self._signer = self.signer(self.identity, leased())

    def _serve(self, channel: Channel) -> None:
        self.connections += 1

        def attest(nonce: bytes, exporter: bytes) -> bytes:
            bound = judging.Channel(nonce=nonce, spki=self.identity.spki, exporter=exporter)
            return self.forged(nonce, bound)

        gateway = Gateway(
            terms=leased(), engine=self.stub.engine, engine_model=self.stub.model,
            template_tokens=100, meter=self._meter, attest=attest,
            signer=self._signer, distrust=lambda _: None,
        )  # fmt: skip
        gateway.serve(_Watched(channel, self.seen))

    def __enter__(self) -> Self:
        context = tls.server_context(self.identity)
        self._listener = Listener(("127.0.0.1", self.port), context, self._serve)
        self.port = self._listener.port
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.stop()

    def was_asked(self) -> bool:
        """Return whether any part of a prompt arrived."""
        return PROMPT.encode() in b"".join(self.seen)


class _Watched:
    """A channel that keeps all that its peer sends."""

    def __init__(self, channel: Channel, seen: list[bytes]) -> None:
        self._channel = channel
        self._seen = seen
        self.until = channel.until
        self.exporter = channel.exporter

    def receive(self, size: int) -> bytes:
        self._channel.until = self.until
        data = self._channel.receive(size)
        self._seen.append(data)
        return data

    def send(self, data: bytes) -> None:
        self._channel.until = self.until
        self._channel.send(data)


def wanted(port: int, **changes: Any) -> TargetMachine:
    """Return the consumer's settings for that connection."""
    rules: Policy = policy()
    given: dict[str, Any] = {
        "host": "127.0.0.1", "port": port, "lease": LEASE, "certified": CERTIFIED, "policy": rules,
    }  # fmt: skip
    return TargetMachine(**given | changes)


@contextmanager
def relay(to: int, identity: Identity, seen: list[bytes]) -> Iterator[int]:
    """Run a relay with TLS on both sides and its own key for the consumer; it reads everything."""

    def between(channel: Channel) -> None:
        with Upstream(to) as machine:
            while True:
                channel.until = machine.until
                data = channel.receive(1 << 16)
                if not data:
                    return
                seen.append(data)
                machine.channel.send(data)
                channel.send(machine.channel.receive(1 << 17))

    listener = Listener(("127.0.0.1", 0), tls.server_context(identity), between)
    listener.start()
    try:
        yield listener.port
    finally:
        listener.stop()


class Upstream:
    """The relay's own connection to the machine."""

    def __init__(self, port: int) -> None:
        from aicert.serving.tls import Channel as Consumers

        self._socket = socket.create_connection(("127.0.0.1", port))
        self.until = time.monotonic() + LONG
        self.channel = Consumers(self._socket, self.until)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()


@contextmanager
def saying(
    answers: Callable[[bytes, Channel], bytes | None],
    identity: Identity | None = None,
    port: int = 0,
) -> Iterator[int]:
    """Run a TLS server that answers as a test wants; None closes the connection."""

    def serve(channel: Channel) -> None:
        channel.until = time.monotonic() + LONG
        while data := channel.receive(1 << 16):
            answer = answers(data, channel)
            if answer is None:
                return
            channel.send(answer)

    context = tls.server_context(identity or tls.make_identity())
    listener = Listener(("127.0.0.1", port), context, serve)
    listener.start()
    try:
        yield listener.port
    finally:
        listener.stop()
