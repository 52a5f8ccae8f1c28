"""The one port of a machine whose courier comes by network: the courier's, and later clients' too.

Some platforms offer no port between host and machine, so the courier asks on a route of its own,
beside those of the clients, and gets the machine's lines as the answer (`aicert.lease.parcels`).
All that it carries is signed end to end. Its key only keeps a stranger from taking its place, who
could do no more than a courier can: withhold messages, and end serving.
"""

import hmac
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest, of_bytes
from aicert.lease import courier
from aicert.lease.courier import Message
from aicert.lease.parcels import MAX_PARCEL, MOST_HELD, ROUTE, Parcels
from enclave_runner.serving import answers, wire
from enclave_runner.serving.gateway import IDLE_S, TAKE_S, Connection
from enclave_runner.serving.listener import Listener
from enclave_runner.serving.requests import RequestRefused
from enclave_runner.serving.tls import Channel, Identity, server_context
from enclave_runner.serving.wire import Raw

# How long an answer waits for something to say. The courier's next request waits for it.
WAIT_S: Final = 0.25
_LINE: Final = f"POST {ROUTE} ".encode("ascii")
_BEARER: Final = "Bearer "
_STEP: Final = 1 << 16


class _Peeked:
    """A connection of which some bytes were read already: they come first."""

    def __init__(self, channel: Channel, held: bytes) -> None:
        self._channel = channel
        self._held = held
        self.exporter = channel.exporter

    @property
    def until(self) -> float:
        return self._channel.until

    @until.setter
    def until(self, until: float) -> None:
        self._channel.until = until

    def receive(self, size: int) -> bytes:
        if not self._held:
            return self._channel.receive(size)
        data, self._held = self._held[:size], self._held[size:]
        return data

    def send(self, data: bytes) -> None:
        self._channel.send(data)


class Admitted:
    """The clients' part of the port, as `Opened` knows a `Listener`."""

    def __init__(self, port: int, stop: Callable[[], None]) -> None:
        self.port = port
        self.stop = stop


class Entrance:
    """The courier's end and the clients' port. `key` is the SHA-256 of the courier's key."""

    def __init__(self, address: tuple[str, int], identity: Identity, key: Digest) -> None:
        self._key = key
        self._parcels = Parcels()
        self._asked: queue.Queue[bytes] = queue.Queue(MOST_HELD)
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._courier: Channel | None = None
        self._clients: set[Channel] = set()
        self._serve: Callable[[Connection], None] | None = None
        self._listener = Listener(address, server_context(identity), self._connected)

    # --- For the machine.

    def send(self, message: Message) -> None:
        """Keep a line for the courier's next request. Never blocks: a courier that does not ask
        gets no figures, and loses lines in the end.
        """
        if message.kind != courier.STATE or not self._parcels.held:
            self._parcels.add(courier.emit(message))

    def listen(self, handle: Callable[[bytes], None]) -> None:
        """Accept connections from now on, and hand over each line of the courier."""

        def work() -> None:
            while True:
                handle(self._asked.get())

        threading.Thread(target=work, name="courier", daemon=True).start()
        self._listener.start()

    def finish(self, seconds: float) -> None:
        """Wait until the courier has taken every line, for at most `seconds`. Then close."""
        self._parcels.wait_taken(seconds)
        self._listener.stop()

    def admit(self, serve: Callable[[Connection], None]) -> Admitted:
        """Let clients in, until the result's `stop` ends every connection of theirs."""
        with self._lock:
            self._serve = serve
        return Admitted(self._listener.port, self._dismiss)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._listener.port

    def _dismiss(self) -> None:
        with self._lock:
            self._serve = None
            for channel in self._clients:
                channel.abort()

    # --- Connections.

    def _connected(self, channel: Channel) -> None:
        channel.until = time.monotonic() + IDLE_S
        held = b""
        while len(held) < len(_LINE) and _LINE.startswith(held):
            more = channel.receive(_STEP)
            if not more:
                return
            held += more
        connection = _Peeked(channel, held)
        if held.startswith(_LINE):
            self._carry(channel, connection)
        else:
            self._admitted(channel, connection)

    def _admitted(self, channel: Channel, connection: Connection) -> None:
        with self._lock:
            serve = self._serve
            if serve is not None:
                self._clients.add(channel)
        if serve is None:
            return _refuse(connection, 503, "the machine serves nothing now", "machine")
        try:
            serve(connection)
        finally:
            with self._lock:
                self._clients.discard(channel)

    def _carry(self, channel: Channel, connection: Connection) -> None:
        reader = wire.Reader(connection.receive)
        try:
            while (raw := reader.request()) is not None:
                connection.until = time.monotonic() + TAKE_S
                self._check(raw)
                self._replace(channel)
                self._take(raw.body)
                self._parcels.wait(WAIT_S)
                connection.send(wire.answer(200, self._parcels.pack(), is_last=False))
                connection.until = time.monotonic() + IDLE_S
        except RequestRefused as refused:
            _refuse(connection, refused.status, refused.message, refused.check)

    def _check(self, raw: Raw) -> None:
        """Raises RequestRefused unless it is a parcel of the courier."""
        given = [value for name, value in raw.headers if name.lower() == "authorization"]
        key = given[0].removeprefix(_BEARER) if len(given) == 1 else ""
        if not hmac.compare_digest(str(of_bytes(key.encode())), str(self._key)):
            raise RequestRefused("courier.key", 403, "this is not the key of the machine's courier")
        if (raw.method, raw.target) != ("POST", ROUTE) or len(raw.body) > MAX_PARCEL:
            raise RequestRefused("courier.request", 400, "the request is not a parcel")

    def _replace(self, channel: Channel) -> None:
        """One courier at a time: who has the key and comes later replaces who came before."""
        with self._lock:
            before, self._courier = self._courier, channel
        if before is not None and before is not channel:
            before.abort()

    def _take(self, parcel: bytes) -> None:
        with self._taking:
            room = MOST_HELD - self._asked.qsize()
            try:
                lines = self._parcels.unpack(parcel, room)
            except EvidenceError as error:
                raise RequestRefused("courier.request", 400, error.message) from None
            for line in lines:
                self._asked.put_nowait(line)


def _refuse(connection: Connection, status: int, message: str, kind: str) -> None:
    connection.until = time.monotonic() + TAKE_S
    connection.send(wire.answer(status, answers.error(message, kind), is_last=True))
