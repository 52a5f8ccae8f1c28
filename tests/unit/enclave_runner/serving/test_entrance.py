"""The port that courier and clients share, over TLS on this computer."""

import json
import queue
import threading
from collections.abc import Iterator

import pytest

from aicert.formats.digest import of_bytes
from aicert.lease import courier
from aicert.lease.courier import Message
from aicert.lease.parcels import MAX_PARCEL, MOST_HELD, ROUTE, Parcels
from enclave_runner.serving import entrance as entrances
from enclave_runner.serving import tls, wire
from enclave_runner.serving.entrance import Entrance
from enclave_runner.serving.gateway import Connection
from tests.e2e.serving.serving_client import Answer, Client

KEY = "5e" * 32
READY = Message(kind=courier.READY, data=bytes(32))
STATE = Message(
    kind=courier.STATE,
    numbers=tuple(
        (name, 1)
        for name in ("budget", "meter", "refused", "requests", "seconds", "tokensIn", "tokensOut")
    ),
)
STOP = courier.emit(Message(kind=courier.STOP))
Heard = queue.Queue[bytes]


@pytest.fixture
def heard() -> Heard:
    return queue.Queue()


@pytest.fixture
def entrance(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entrance]:
    monkeypatch.setattr(entrances, "WAIT_S", 0.0)
    entrance = Entrance(("127.0.0.1", 0), tls.make_identity(), of_bytes(KEY.encode()))
    entrance.listen(heard.put)
    yield entrance
    entrance.finish(0)


def request(body: bytes, *headers: str, first: str = f"POST {ROUTE}") -> bytes:
    lines = [f"{first} HTTP/1.1", "host: machine", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def post(client: Client, body: bytes, *headers: str, first: str = f"POST {ROUTE}") -> Answer:
    return client.send(request(body, *headers, first=first))


def carried(client: Client, parcels: Parcels) -> list[bytes]:
    answer = post(client, parcels.pack(), f"authorization: Bearer {KEY}")
    assert answer.status == 200
    return parcels.unpack(answer.read())


def serve(connection: Connection) -> None:
    """What a gateway does, in short."""
    reader = wire.Reader(connection.receive)
    assert connection.exporter
    assert connection.until
    while (raw := reader.request()) is not None:
        connection.send(wire.answer(200, raw.body, is_last=False))


def test_lines_go_both_ways(entrance: Entrance, heard: Heard) -> None:
    entrance.send(READY)
    # Figures are not kept where others wait.
    entrance.send(STATE)
    parcels = Parcels()
    parcels.add(STOP)
    with Client(entrance.port) as client:
        assert carried(client, parcels) == [courier.emit(READY)]
        assert heard.get() == STOP
        assert carried(client, parcels) == []
        entrance.send(STATE)
        assert carried(client, parcels) == [courier.emit(STATE)]
    assert heard.empty()


def test_it_closes_once_the_courier_has_everything(entrance: Entrance) -> None:
    entrance.send(READY)
    closing = threading.Thread(target=entrance.finish, args=(600,))
    closing.start()
    parcels = Parcels()
    with Client(entrance.port) as client:
        assert carried(client, parcels) == [courier.emit(READY)]
        # Whether the answer still arrives does not matter.
        client.tls.sendall(request(parcels.pack(), f"authorization: Bearer {KEY}"))
        closing.join(600)
        assert not closing.is_alive()


@pytest.mark.parametrize(
    ("headers", "first", "body", "status"),
    [
        ((), f"POST {ROUTE}", b"", 403),
        (("authorization: Bearer " + "00" * 32,), f"POST {ROUTE}", b"", 403),
        ((f"authorization: Bearer {KEY}",) * 2, f"POST {ROUTE}", b"", 403),
        ((f"authorization: Bearer {KEY}",), f"POST {ROUTE}", b"", 400),
        ((f"authorization: Bearer {KEY}",), f"POST {ROUTE}", b"x" * (MAX_PARCEL + 1), 400),
        ((f"authorization: Bearer {KEY}", "a b: c"), f"POST {ROUTE}", b"", 400),
    ],
)
def test_who_is_not_its_courier_is_refused(
    entrance: Entrance, heard: Heard, headers: tuple[str, ...], first: str, body: bytes, status: int
) -> None:
    with Client(entrance.port) as client:
        refusal = post(client, body, *headers, first=first)
        assert (refusal.status, bool(refusal.read())) == (status, True)
        assert client.is_closed()
    assert heard.empty()


def test_a_courier_that_asks_for_another_route_is_refused(entrance: Entrance) -> None:
    with Client(entrance.port) as client:
        assert carried(client, Parcels()) == []
        answer = post(client, b"", f"authorization: Bearer {KEY}", first="POST /v1/models")
        assert (answer.status, bool(answer.read())) == (400, True)
        assert client.is_closed()


def test_the_later_courier_replaces_the_earlier(entrance: Entrance) -> None:
    parcels = Parcels()
    with Client(entrance.port) as first, Client(entrance.port) as second:
        carried(first, parcels)
        carried(second, parcels)
        assert first.is_closed()
        carried(second, parcels)


def test_lines_for_which_there_is_no_room_are_taken_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entrances, "WAIT_S", 0.0)
    busy, go = threading.Event(), threading.Event()
    taken: Heard = queue.Queue()

    def handle(line: bytes) -> None:
        busy.set()
        go.wait(600)
        taken.put(line)

    entrance = Entrance(("127.0.0.1", 0), tls.make_identity(), of_bytes(KEY.encode()))
    entrance.listen(handle)
    parcels = Parcels()
    with Client(entrance.port) as client:
        parcels.add(STOP)
        carried(client, parcels)
        busy.wait(600)
        for _ in range(MOST_HELD):
            parcels.add(STOP)
        carried(client, parcels)
        assert parcels.held == 0
        parcels.add(STOP)
        carried(client, parcels)
        assert parcels.held == 1
        go.set()
        for _ in range(MOST_HELD + 1):
            taken.get(timeout=600)
        carried(client, parcels)
    entrance.finish(0)
    assert taken.get(timeout=600) == STOP


def test_clients_come_in_while_something_is_served(entrance: Entrance) -> None:
    with Client(entrance.port) as early:
        answer = early.ask("/v1/models", None, "GET")
        assert (answer.status, json.loads(answer.read())["error"]["type"]) == (503, "machine")
        assert early.is_closed()
    admitted = entrance.admit(serve)
    assert admitted.port == entrance.port
    parcels = Parcels()
    with Client(entrance.port) as client, Client(entrance.port) as carrier:
        carried(carrier, parcels)
        for size in (1, 1 << 17):
            assert client.ask("/v1/models", "x" * size).document == "x" * size
        admitted.stop()
        assert client.is_closed()
        # Its last receipt is still to come.
        entrance.send(READY)
        assert carried(carrier, parcels) == [courier.emit(READY)]


@pytest.mark.parametrize("carries", [False, True])
def test_who_leaves_without_a_word_is_forgotten(entrance: Entrance, carries: bool) -> None:
    with Client(entrance.port) as client:
        if carries:
            assert carried(client, Parcels()) == []
        client.tls.shutdown()
        assert client.is_closed()


def test_a_connection_that_ended_can_be_aborted(entrance: Entrance) -> None:
    channels: list[tls.Channel] = []

    def leave(connection: Connection) -> None:
        channels.append(connection._channel)  # type: ignore[attr-defined]  # the entrance's own

    entrance.admit(leave)
    with Client(entrance.port) as client:
        client.tls.sendall(b"GET / HTTP/1.1\r\n")
        assert client.is_closed()
    channels[0].abort()
