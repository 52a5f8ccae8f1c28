"""The gateway over a connection in memory, with an engine behind a real socket."""

import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import ToolError
from aicert.frozen import replace
from aicert.lease.receipts import Usage
from enclave_runner.serving import gateway
from enclave_runner.serving.answers import EngineError
from enclave_runner.serving.engine import Engine
from enclave_runner.serving.gateway import EVIDENCE, Gateway
from enclave_runner.serving.meter import Meter
from enclave_runner.serving.requests import CHAT, COMPLETIONS, MODELS
from enclave_runner.serving.signer import Signer
from enclave_runner.serving.tls import make_identity
from enclave_runner.serving.wire import ChannelError
from tests.e2e.serving import stub_engine
from tests.e2e.serving.stub_engine import StubEngine, event
from tests.vectors.leases import LEASE, agreed

MESSAGES = [{"role": "user", "content": "hello"}]
EXPORTER = b"\x22" * 32
TICK = 1000
IDENTITY = make_identity()
# What a request of MESSAGES for three tokens reserves: text, message, template, request, answer.
RESERVED = 5 + 64 + 100 + 256 + 3


@dataclass
class Memory:
    """A client in memory that has sent everything, and accepts a limited number of pieces."""

    incoming: bytes
    takes: int = 1 << 30
    until: float = 0.0
    exporter: bytes = EXPORTER
    sent: list[bytes] = field(default_factory=list)

    def receive(self, size: int) -> bytes:
        data, self.incoming = self.incoming[:size], self.incoming[size:]
        return data

    def send(self, data: bytes) -> None:
        if len(self.sent) >= self.takes:
            raise ChannelError("the other end closed the connection")
        self.sent.append(data)


@dataclass
class Served:
    """A gateway, and a record of what it did."""

    stub: StubEngine
    budget: int = 100
    ticks: int = 0
    is_broken: bool = False
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meter = Meter(self._tick, tick_tokens=TICK, budget=self.budget)
        self.gateway = Gateway(
            terms=agreed(tick_tokens=TICK),
            engine=self.stub.engine,
            engine_model=self.stub.model,
            template_tokens=100,
            meter=self.meter,
            attest=lambda nonce, exporter: b"of " + nonce + exporter,
            signer=Signer(IDENTITY, agreed(tick_tokens=TICK)),
            distrust=self.reasons.append,
        )

    def _tick(self) -> None:
        if self.is_broken:
            raise ToolError("the TPM cannot raise a counter: it is gone")
        self.ticks += 1

    def over(self, *requests: bytes, takes: int = 1 << 30) -> bytes:
        """Send these requests on one connection, and return what the client gets."""
        memory = Memory(b"".join(requests), takes)
        self.gateway.serve(memory)
        return b"".join(memory.sent)


@pytest.fixture
def stub() -> Iterator[StubEngine]:
    # A path short enough for a socket.
    with tempfile.TemporaryDirectory(prefix="aicert-") as name:
        with stub_engine.running(Path(name)) as stub:
            yield stub


def request(target: str, document: Any = None, method: str = "POST") -> bytes:
    body = b"" if document is None else json.dumps(document).encode()
    return (
        f"{method} {target} HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def chat(**more: Any) -> bytes:
    return request(CHAT, {"messages": MESSAGES, "max_tokens": 3, **more})


def statuses(data: bytes) -> list[int]:
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


def body(data: bytes) -> Any:
    return json.loads(data.rpartition(b"\r\n\r\n")[2])


def events(data: bytes) -> list[Any]:
    """Return the parts of a streamed answer; the final marker must be there."""
    lines = [line for line in data.split(b"\n") if line.startswith(b"data: ")]
    assert lines.pop() == b"data: [DONE]"
    return [json.loads(line[6:]) for line in lines]


def test_a_connection_is_served_until_the_client_leaves(stub: StubEngine) -> None:
    served = Served(stub)
    data = served.over(request(MODELS, method="GET"), chat(), chat(model=LEASE))
    assert statuses(data) == [200, 200, 200]
    assert body(data)["choices"][0]["message"]["content"] == "one two three"
    assert body(data)["model"] == LEASE
    # The engine uses its own name for the model, and counts tokens for us.
    assert [asked["model"] for asked in stub.asked] == [stub.model] * 2
    assert all(asked["stream_options"] == {"include_usage": True} for asked in stub.asked)
    assert served.meter.usage == Usage(tokens_in=14, tokens_out=6, requests=2, ticks=1)
    assert served.ticks == 1


def test_an_answer_comes_in_parts_to_who_asks(stub: StubEngine) -> None:
    data = Served(stub).over(chat(stream=True))
    given = events(data)
    texts = [one["choices"][0]["delta"].get("content", "") for one in given]
    assert "".join(texts) == "one two three"
    assert given[-1]["choices"][0]["finish_reason"] == "stop"
    assert not [one for one in given if "usage" in one]
    assert data.endswith(b"0\r\n\r\n")
    asked = chat(stream=True, stream_options={"include_usage": True})
    counted = events(Served(stub).over(asked))[-1]
    assert (counted["choices"], counted["usage"]["total_tokens"]) == ([], 10)


def test_a_completion_is_served_too(stub: StubEngine) -> None:
    data = Served(stub).over(request(COMPLETIONS, {"prompt": "x", "max_tokens": 2}))
    assert body(data)["choices"][0]["text"] == "one two"


def test_evidence_is_given_for_a_nonce_and_this_connection(stub: StubEngine) -> None:
    served = Served(stub)
    data = served.over(request(EVIDENCE, {"nonce": "11" * 32}), chat())
    assert statuses(data) == [200, 200]
    assert b"of " + b"\x11" * 32 + EXPORTER in data
    document: Any
    for document in ({"nonce": "11"}, {}, {"nonce": "11" * 32, "x": 1}, [], "x" * 300):
        refused = served.over(request(EVIDENCE, document), chat())
        assert statuses(refused) == [400]
    assert statuses(served.over(request(EVIDENCE, {"nonce": "11" * 32}, "PUT"))) == [405]


def test_gateway_request_for_a_receipt_comes_after_evidence(stub: StubEngine) -> None:
    served = Served(stub)
    wanted = chat().replace(b"Host: m\r\n", b"Host: m\r\naicert-receipt: " + b"0e" * 32 + b"\r\n")
    refused = served.over(wanted, chat())
    assert statuses(refused) == [400]
    assert body(refused)["error"]["code"] == "gateway.request"
    assert stub.asked == []
    data = served.over(request(EVIDENCE, {"nonce": "11" * 32}), wanted)
    assert statuses(data) == [200, 200]
    assert b"\r\naicert-receipt: " in data
    for form in (b"0e", b"", b"0E" * 32, b"0e" * 32 + b"\r\naicert-receipt: " + b"0e" * 32):
        twice = wanted.replace(b"0e" * 32, form)
        assert statuses(served.over(request(EVIDENCE, {"nonce": "11" * 32}), twice)) == [200, 400]
    listed = request(MODELS, method="GET")
    listed = listed.replace(b"Host: m\r\n", b"Host: m\r\naicert-receipt: " + b"0e" * 32 + b"\r\n")
    assert statuses(served.over(listed)) == [400]


def test_gateway_route_and_request_that_are_refused_end_the_connection(stub: StubEngine) -> None:
    served = Served(stub)
    for asked, status, check in (
        (request("/load_model", {"model": "/etc"}), 404, "gateway.route"),
        (request(CHAT + "?x=1", {}), 404, "gateway.route"),
        (request("http://m" + CHAT, {}), 404, "gateway.route"),
        (request("/v1/../v1/models", None, "GET"), 404, "gateway.route"),
        (request(CHAT, None, "GET"), 405, "gateway.route"),
        (chat(n=128), 400, "gateway.request"),
        (b"GET /v1/models HTTP/1.1\r\nHost: m\r\nHost: n\r\n\r\n", 400, "gateway.request"),
        (b"nonsense\r\n\r\n", 400, "gateway.request"),
    ):
        # Bytes after the request on the connection are not read.
        data = served.over(asked, chat())
        assert statuses(data) == [status]
        assert body(data)["error"]["code"] == check
        assert b"connection: close" in data
    assert stub.asked == []
    assert served.meter.usage == Usage()


def test_a_budget_ends_before_the_engine_is_asked(stub: StubEngine) -> None:
    served = Served(stub, budget=0)
    data = served.over(chat(), request(MODELS, method="GET"))
    assert statuses(data) == [402, 200]
    assert stub.asked == []
    assert served.meter.usage == Usage(tokens_refused=RESERVED)


def test_what_cannot_be_counted_is_not_served(
    stub: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "SLOTS", 1)
    served = Served(stub)
    served.is_broken = True
    for _ in range(2):
        data = served.over(chat(), chat())
        assert (statuses(data), body(data)["error"]["code"]) == ([503], "machine")
    assert stub.asked == []
    served.is_broken = False
    assert statuses(served.over(chat())) == [200]


def says(*lines: bytes) -> Any:
    return lambda _: iter([*lines, b"data: [DONE]\n\n"])


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": 0, "completion_tokens": 3},
        {"prompt_tokens": 7},
        {"prompt_tokens": 7, "completion_tokens": -1},
        {"prompt_tokens": 7, "completion_tokens": 4},
        {"prompt_tokens": 10**9, "completion_tokens": 1},
        {"prompt_tokens": 7.5, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_meter_usage_that_is_not_believed_ends_serving(
    stub: StubEngine, usage: Any, stream: bool
) -> None:
    stub.say = says(event("word", usage=usage, route=CHAT))
    served = Served(stub)
    data = served.over(chat(stream=stream), chat())
    assert statuses(data) == [200 if stream else 502]
    assert b"meter.usage: " in data
    # The answer has no end that a client could take for a complete one.
    assert not data.endswith(b"0\r\n\r\n")
    assert served.reasons == ["usage"]
    assert served.meter.usage == Usage(tokens_in=RESERVED - 3, tokens_out=3, requests=1, ticks=1)


def test_an_engine_that_breaks_off_is_counted_whole(stub: StubEngine) -> None:
    for say in (
        lambda _: iter([event("word", route=CHAT)]),
        lambda _: iter([b"data: nonsense\n\n"]),
        lambda _: iter([]),
    ):
        stub.say = say
        served = Served(stub)
        assert b'"engine"' in served.over(chat(stream=True), chat())
        assert len(stub.asked) == 1
        stub.asked.clear()
        assert served.meter.usage.tokens_out == 3
        assert served.meter.usage.tokens_in == RESERVED - 3
        assert served.reasons == []


def test_an_engine_that_refuses_costs_nothing(stub: StubEngine) -> None:
    stub.status = 500
    served = Served(stub)
    assert statuses(served.over(chat(), chat(stream=True))) == [502, 502]
    assert served.meter.usage == Usage(requests=2, ticks=1)


def test_an_engine_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    served = Served(StubEngine(tmp_path))
    assert statuses(served.over(chat())) == [502]
    assert not Engine(tmp_path).is_there()
    # The path must be a socket of our own: not a file, and not a link to a socket.
    (tmp_path / "engine.sock").write_bytes(b"")
    with pytest.raises(EngineError, match="is not a socket"), Engine(tmp_path).ask(CHAT, b"{}"):
        pass
    (tmp_path / "engine.sock").unlink()
    (tmp_path / "engine.sock").symlink_to("/dev/null")
    assert not Engine(tmp_path).is_there()


@pytest.mark.parametrize("takes", [0, 1, 2, 3, 4])
def test_a_client_who_leaves_is_counted_as_one_who_stays(stub: StubEngine, takes: int) -> None:
    served = Served(stub)
    served.over(chat(stream=True), chat(), takes=takes)
    assert len(stub.asked) == 1
    assert served.meter.usage == Usage(tokens_in=7, tokens_out=3, requests=1, ticks=1)


def test_an_answer_has_at_most_the_bytes_that_were_agreed(stub: StubEngine) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    stub.say = says(event(1000 * "x", usage=usage, route=CHAT))
    served = Served(stub)
    (answer,) = [body(served.over(chat()))]
    assert len(answer["choices"][0]["message"]["content"]) == 3 * agreed().egress_bytes_per_token


def test_bytes_count_where_an_engine_says_too_little(stub: StubEngine) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    stub.say = says(event(17 * "x", usage=usage, route=CHAT))
    served = Served(stub)
    assert agreed().egress_bytes_per_token == 16
    assert body(served.over(chat()))["usage"]["completion_tokens"] == 2
    assert served.meter.usage.tokens_out == 2


def test_requests_beyond_what_the_engine_takes_wait_and_are_told(
    stub: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "SLOTS", 1)
    monkeypatch.setattr(gateway, "QUEUE_S", 0.01)
    begun = threading.Event()

    def held(_: Any) -> Iterator[bytes]:
        begun.set()
        assert stub.held.wait(600)
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        yield from says(event("x", usage=usage, route=CHAT))(None)

    stub.say = held
    served = Served(stub)
    first: list[bytes] = []
    thread = threading.Thread(target=lambda: first.append(served.over(chat())))
    thread.start()
    assert begun.wait(600)
    busy = served.over(chat())
    assert (statuses(busy), body(busy)["error"]["code"]) == ([503], "busy")
    stub.held.set()
    thread.join()
    assert statuses(first[0]) == [200]
    assert statuses(served.over(chat())) == [200]
    assert served.meter.usage == Usage(tokens_in=14, tokens_out=6, requests=2, ticks=1)


def test_a_lease_has_the_routes_of_its_terms(stub: StubEngine) -> None:
    served = Served(stub)
    served.gateway._terms = replace(agreed(), routes=(MODELS,))
    assert statuses(served.over(request(MODELS, method="GET"), chat())) == [200, 404]
