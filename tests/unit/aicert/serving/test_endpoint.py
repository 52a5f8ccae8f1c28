"""The local endpoint in front of a real gateway, with OpenAI clients and hostile ones."""

import http.client
import json
import socket
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import aicert.serving
from aicert.errors import ConfigError, EvidenceError, RejectedError, ToolError
from aicert.lease.checks import RefusedError
from aicert.serving import endpoint as endpoints
from aicert.serving.endpoint import Endpoint
from enclave_runner.serving import tls
from enclave_runner.serving.requests import CHAT, COMPLETIONS, MODELS
from tests.adversarial.forger import Scene
from tests.e2e.serving.stub_engine import StubEngine, event
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.aicert.leasing.test_serving import leased
from tests.unit.aicert.serving import machines
from tests.unit.aicert.serving.machines import MESSAGES, Machine, honest, wanted
from tests.vectors.leases import LEASE

ASKED = {"model": LEASE, "messages": MESSAGES, "max_tokens": 3}


class Client(http.client.HTTPConnection):
    """One local connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__("127.0.0.1", endpoint.port, timeout=600)

    def ask(
        self, target: str = CHAT, document: Any = ASKED, method: str = "POST", **headers: str
    ) -> tuple[int, Any]:
        body = None if document is None else json.dumps(document).encode()
        given = {"content-type": "application/json", "authorization": "Bearer sk-real", **headers}
        self.request(method, target, body, given)
        answer = self.getresponse()
        return answer.status, json.loads(answer.read())


def asked(endpoint: Endpoint, document: Any = ASKED) -> tuple[int, Any]:
    """Ask one question on a new connection, and return the answer."""
    with closing(Client(endpoint)) as client:
        return client.ask(CHAT, document)


def raw(endpoint: Endpoint, data: bytes) -> bytes:
    """Send these bytes, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=600) as connected:
        connected.sendall(data)
        connected.shutdown(socket.SHUT_WR)
        received = b""
        while part := connected.recv(1 << 16):
            received += part
        return received


def test_a_client_is_answered_and_his_key_stays_here(stub: StubEngine) -> None:
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        client = Client(endpoint)
        status, document = client.ask()
        assert (status, document["choices"][0]["message"]["content"]) == (200, "one two three")
        status, document = client.ask(MODELS, None, "GET")
        assert [one["id"] for one in document["data"]] == [LEASE]
        assert client.ask(COMPLETIONS, {"prompt": "x", "max_tokens": 1})[0] == 200
        # One connection to the machine, besides the first, which was appraised for no client.
        assert machine.connections == 2
        client.close()
        assert (endpoint.served.terms, endpoint.error) == (leased(), None)
        assert endpoint.base_url == f"http://127.0.0.1:{endpoint.port}/v1"
    assert b"sk-real" not in b"".join(machine.seen)
    endpoint.wait()


def test_a_stream_comes_in_parts(stub: StubEngine) -> None:
    held = threading.Event()

    def words(_: Any) -> Any:
        yield event("one", route=CHAT)
        assert held.wait(600)
        usage = {"prompt_tokens": 7, "completion_tokens": 2}
        yield event(" two", reason="stop", usage=usage, route=CHAT)
        yield b"data: [DONE]\n\n"

    stub.say = words
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        client = Client(endpoint)
        client.request("POST", CHAT, json.dumps(ASKED | {"stream": True}))
        answer = client.getresponse()
        assert answer.getheader("content-type") == "text/event-stream"
        first = answer.readline()
        assert b'"content":"one"' in first
        held.set()
        assert answer.read().endswith(b"data: [DONE]\n\n")
        client.close()


def test_what_the_machine_refuses_comes_as_it_says(stub: StubEngine) -> None:
    with Machine(stub, budget=0) as machine, Endpoint(wanted(machine.port)) as endpoint:
        for document, status, code in (
            (ASKED, 402, "budget"),
            (ASKED | {"n": 2}, 400, "gateway.request"),
            (ASKED | {"model": "gpt"}, 404, "gateway.request"),
        ):
            given = asked(endpoint, document)
            assert (given[0], given[1]["error"]["code"]) == (status, code)
        assert endpoint.error is None


def test_local_requests_that_no_program_here_sends_are_refused(stub: StubEngine) -> None:
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        sent = len(machine.seen)
        host = f"Host: 127.0.0.1:{endpoint.port}\r\n".encode()
        post = b"POST /v1/chat/completions HTTP/1.1\r\n"
        for data, status in (
            # Another name for this computer (DNS rebinding), a page's script, two hosts, none.
            (post + b"Host: evil.example\r\nContent-Length: 2\r\n\r\n{}", 403),
            (post + host + b"Origin: https://evil.example\r\nContent-Length: 2\r\n\r\n{}", 403),
            (post + host + host + b"Content-Length: 2\r\n\r\n{}", 403),
            (post + b"Content-Length: 2\r\n\r\n{}", 403),
            (b"POST /aicert/evidence HTTP/1.1\r\n" + host + b"Content-Length: 2\r\n\r\n{}", 404),
            (b"POST /load_model HTTP/1.1\r\n" + host + b"Content-Length: 2\r\n\r\n{}", 404),
            (b"GET /v1/chat/completions HTTP/1.1\r\n" + host + b"\r\n", 405),
            (b"POST /v1/models HTTP/1.1\r\n" + host + b"Content-Length: 2\r\n\r\n{}", 405),
            (b"GET /v1/models HTTP/1.1\r\n" + host + b"Content-Length: 2\r\n\r\n{}", 400),
            (b"GET /v1/models HTTP/1.0\r\n" + host + b"\r\n", 400),
            (post + host + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
            (post + host + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 411),
            (post + host + b"Content-Length: -2\r\n\r\n{}", 411),
            (post + host + b"Content-Length: 1048577\r\n\r\n", 413),
            (b"PUT /v1/models HTTP/1.1\r\n" + host + b"\r\n", 501),
            (b"nonsense\r\n\r\n", 400),
        ):
            answer = raw(endpoint, data)
            assert answer.startswith(b"HTTP/1.1 %d " % status), data
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"connection: close" in head
            assert json.loads(body)["error"]["code"] == "endpoint"
            assert b"access-control" not in head.lower()
        assert raw(endpoint, post + host + b"Content-Length: 20\r\n\r\n{}") == b""
        assert raw(endpoint, b"") == b""
        # None of it reached the machine.
        assert len(machine.seen) == sent
        localhost = f"Host: localhost:{endpoint.port}\r\nConnection: close\r\n\r\n".encode()
        assert b" 200 OK\r\n" in raw(endpoint, b"GET /v1/models HTTP/1.1\r\n" + localhost)


def test_the_port_of_http_is_left_out_by_clients(
    stub: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        bare = b"GET /v1/models HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
        for host in (b"127.0.0.1", b"LocalHost"):
            assert raw(endpoint, bare % host).startswith(b"HTTP/1.1 403 ")
            with monkeypatch.context() as patched:
                # Pretend to listen on the default port, which needs privileges.
                patched.setattr(endpoints, "_HTTP", endpoint.port)
                assert raw(endpoint, bare % host).startswith(b"HTTP/1.1 200 ")
                assert raw(endpoint, bare % b"evil.example").startswith(b"HTTP/1.1 403 ")


def test_serve_channel_of_a_later_connection_ends_the_endpoint(stub: StubEngine) -> None:
    """The first connection was honest; the second goes through a relay.

    Its prompt stays here, and so does every later one, wherever it would go.
    """
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        kept = machine.forged
        machine.forged = lambda nonce, channel: honest(nonce, channel, bound_statement=b"another")
        status, document = asked(endpoint)
        assert (status, document["error"]["code"]) == (502, "serve.channel")
        assert document["error"]["message"].startswith("serve.channel: the quote does not bind")
        machine.forged = kept
        connections = machine.connections
        assert asked(endpoint)[0] == 502
        assert machine.connections == connections
        assert not machine.was_asked()
        with pytest.raises(RefusedError) as refused:
            endpoint.wait()
        assert refused.value.exit_code == 1


def test_serve_boot_of_a_machine_that_was_started_anew_ends_the_endpoint(
    stub: StubEngine, port: int
) -> None:
    with Machine(stub, port=port):
        endpoint = Endpoint(wanted(port))
    with endpoint, Machine(stub, port=port) as again:
        assert asked(endpoint)[1]["error"]["code"] == "serve.boot"
        assert isinstance(endpoint.error, RefusedError)
    assert again.seen == []


def test_a_machine_that_cannot_be_reached_may_come_back(stub: StubEngine, port: int) -> None:
    identity = tls.make_identity()
    with Machine(stub, identity, port=port):
        endpoint = Endpoint(wanted(port))
        assert asked(endpoint)[0] == 200
    with endpoint:
        status, document = asked(endpoint)
        assert (status, document["error"]["code"]) == (502, "endpoint")
        assert "cannot reach" in document["error"]["message"]
        assert endpoint.error is None
        with Machine(stub, identity, port=port):
            assert asked(endpoint)[0] == 200


REDIRECT = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "


@pytest.mark.parametrize(
    ("answer", "is_over"),
    [
        (REDIRECT, True),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi", True),
        (HEAD + b"999999999\r\n\r\n", True),
        (HEAD + b"20\r\n\r\n{", False),
    ],
)  # fmt: skip
def test_an_answer_that_no_gateway_sends_reaches_nobody(answer: bytes, is_over: bool) -> None:
    """Redirects matter most: OpenAI's client would follow one with the prompt."""
    identity = tls.make_identity()

    def answers(data: bytes, channel: tls.Channel) -> bytes | None:
        if not data.startswith(b"POST /aicert"):
            channel.send(answer)
            return None
        return evidence(data, channel, identity)

    with machines.saying(answers, identity) as port, Endpoint(wanted(port)) as endpoint:
        status, document = asked(endpoint)
        assert status == 502
        assert document["error"]["code"] == "endpoint"
        assert isinstance(endpoint.error, EvidenceError) == is_over


def test_a_request_that_waits_for_its_turn_is_not_sent_after_a_no(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two requests share one place: the first is answered by a redirect.

    The second request's prompt is then not sent.
    """
    monkeypatch.setattr(endpoints, "MOST", 1)
    identity = tls.make_identity()
    entered, waits = threading.Event(), threading.Event()
    prompts = []

    def answers(data: bytes, channel: tls.Channel) -> bytes | None:
        if data.startswith(b"POST /aicert"):
            return evidence(data, channel, identity)
        prompts.append(data)
        entered.set()
        assert waits.wait(600)
        channel.send(REDIRECT)
        return None

    class Rooms:
        """A semaphore that reports when the second request waits for a place."""

        def __init__(self, inner: threading.BoundedSemaphore) -> None:
            self.release = inner.release
            self._inner = inner

        def acquire(self, timeout: float) -> bool:
            if entered.is_set():
                waits.set()
            return self._inner.acquire(timeout=timeout)

    with machines.saying(answers, identity) as port, Endpoint(wanted(port)) as endpoint:
        endpoint._rooms = Rooms(endpoint._rooms)  # type: ignore[assignment]
        given: list[tuple[int, Any]] = []
        first = threading.Thread(target=lambda: given.append(asked(endpoint)))
        first.start()
        assert entered.wait(600)
        given.append(asked(endpoint))
        first.join(600)
        assert [status for status, _ in given] == [502, 502]
        assert isinstance(endpoint.error, EvidenceError)
    assert len(prompts) == 1


def test_a_no_that_comes_while_a_connection_is_judged_keeps_the_prompt_here(
    stub: StubEngine,
) -> None:
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:

        def no(nonce: bytes, channel: Any) -> bytes:
            # The error that another request met.
            endpoint._end(EvidenceError("no"))
            return honest(nonce, channel)

        machine.forged = no
        status, document = asked(endpoint)
        assert (status, document["error"]["message"]) == (502, "no")
        assert not machine.was_asked()


def test_a_request_that_is_none_is_told_so_after_a_stream_too(stub: StubEngine) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    stub.say = lambda _: iter(
        [event("one", reason="stop", usage=usage, route=CHAT), b"data: [DONE]\n\n"]
    )
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        body = json.dumps(ASKED | {"stream": True}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1:{endpoint.port}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        answer = raw(endpoint, head.encode() + body + b"nonsense\r\n\r\n")
        assert b"data: [DONE]" in answer
        assert b"\r\n0\r\n\r\nHTTP/1.1 400 " in answer


def evidence(data: bytes, channel: tls.Channel, identity: tls.Identity) -> bytes:
    """Return what an honest machine shows on that connection."""
    from aicert.leasing.serving import Channel

    nonce = bytes.fromhex(data.rpartition(b'"nonce":"')[2][:64].decode())
    shown = honest(nonce, Channel(nonce=nonce, spki=identity.spki, exporter=channel.exporter))
    return HEAD + b"%d\r\n\r\n" % len(shown) + shown


def test_a_stream_that_breaks_off_has_no_end_for_the_client(stub: StubEngine) -> None:
    stub.say = lambda _: iter([event("word", route=CHAT)])
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        client = Client(endpoint)
        client.request("POST", CHAT, json.dumps(ASKED | {"stream": True}))
        with pytest.raises(http.client.IncompleteRead) as cut:
            client.getresponse().read()
        assert b'"word"' in cut.value.partial
        client.close()
        assert endpoint.error is None
        stub.say = None
        assert asked(endpoint)[0] == 200


def test_a_client_who_leaves_takes_nothing_from_others(
    stub: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The only place is free again, however slow this computer is.
    monkeypatch.setattr(endpoints, "MOST", 1)
    monkeypatch.setattr(endpoints, "QUEUE_S", 600.0)
    left = threading.Event()

    def words(_: Any) -> Any:
        yield event("one", route=CHAT)
        assert left.wait(600)
        for _ in range(200):
            yield event("x" * 10_000, route=CHAT)

    stub.say = words
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        client = Client(endpoint)
        client.request("POST", CHAT, json.dumps(ASKED | {"stream": True, "max_tokens": 4096}))
        client.getresponse().readline()
        client.close()
        left.set()
        stub.say = None
        assert asked(endpoint)[0] == 200


def test_more_requests_than_places_wait_and_are_told(
    stub: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "MOST", 1)
    monkeypatch.setattr(endpoints, "QUEUE_S", 0.01)
    entered, held = threading.Event(), threading.Event()

    def words(body: Any) -> Any:
        entered.set()
        assert held.wait(600)
        usage = {"prompt_tokens": 7, "completion_tokens": 1}
        yield event("one", reason="stop", usage=usage, route=CHAT)
        yield b"data: [DONE]\n\n"

    stub.say = words
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        first = Client(endpoint)
        first.request("POST", CHAT, json.dumps(ASKED))
        assert entered.wait(600)
        status, document = asked(endpoint)
        assert status == 503
        assert document["error"]["message"] == "the endpoint works on other requests"
        held.set()
        assert first.getresponse().status == 200
        first.close()


def test_more_local_connections_than_places_are_closed(
    stub: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "CLIENTS", 1)
    with Machine(stub) as machine, Endpoint(wanted(machine.port)) as endpoint:
        first = Client(endpoint)
        assert first.ask()[0] == 200
        assert raw(endpoint, b"") == b""
        first.close()


def test_a_port_that_is_taken_or_none_is_said(stub: StubEngine) -> None:
    with Machine(stub) as machine:
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:"):
            Endpoint(wanted(machine.port), machine.port)
        with pytest.raises(ConfigError, match="a port is from 1 to 65535"):
            Endpoint(wanted(machine.port), 1 << 16)


def files(folder: Path) -> dict[str, Any]:
    """Return what a consumer gives `connect`, for a machine that qemu simulates."""
    lay_out(Scene(), folder)
    return {"lease": LEASE, "certificate": folder / "c.json", "root": folder / "root.pem", "at": AT}


def test_connect_judges_the_certificate_first(tmp_path: Path) -> None:
    given = files(tmp_path)
    with pytest.raises(RejectedError, match=r"platform\.tier"):
        aicert.serving.connect("https://127.0.0.1:1", **given, policy="default")
    with pytest.raises(ToolError, match=r"cannot reach 127\.0\.0\.1:1"):
        aicert.serving.connect("https://127.0.0.1:1", **given, policy="local")
