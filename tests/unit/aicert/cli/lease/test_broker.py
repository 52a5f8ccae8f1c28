"""The custodian's commands, and the broker as they start it, in this process."""

import argparse
import contextlib
import http.client
import json
import queue
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aicert.cli import main
from aicert.cli.lease import broker as commands
from aicert.lease.orders import GRANT
from tests.e2e.lease import broker_process
from tests.unit.aicert.broker import conftest as desk
from tests.unit.aicert.broker.forged import Bench
from tests.unit.signing_keys import Printed

bench = desk.bench


@pytest.fixture
def uvicorn(monkeypatch: pytest.MonkeyPatch, printed: Printed) -> None:
    """Put uvicorn on the path, as it is after the extra was installed."""
    folder = str(broker_process.uvicorn_folder())
    # If uvicorn was missing, its installation printed something.
    printed()
    monkeypatch.setattr(sys, "path", [*sys.path, folder])


def aicert(bench: Bench, *words: str) -> int:
    return main.main(["lease", *words, "--ledger", str(bench.ledger)])


def grant(bench: Bench, *more: str) -> int:
    words = ["grant", str(bench.bundle), "--budget", "5M", "--until", "30d", "--borrower", "a\x1bc"]
    return aicert(bench, *words, *more)


def test_a_grant_says_what_it_grants(bench: Bench, printed: Printed) -> None:
    assert grant(bench) == 0
    text = printed()[0]
    token = text.partition("\ntoken     ")[2][:64]
    bench.broker.require_known(token)
    assert "\nborrower  a\\x1bc\n" in text
    assert "\nbudget    5,000,000 tokens, a licence for at most 1,000,000 ahead of " in text
    assert "without receipts, 180 s after the last\n" in text
    assert grant(bench, "--format", "json", "--advance", "20k") == 0
    document = json.loads(printed()[0])
    assert (document["advance"], document["budget"]) == (20_000, 5_000_000)
    bench.broker.require_known(document["token"])


def test_a_lease_is_revoked_resumed_and_looked_at(bench: Bench, printed: Printed) -> None:
    grant(bench)
    page = bench.folder / "page.html"
    assert aicert(bench, "status", "--html", str(page), "--receipts", str(bench.folder / "a")) == 0
    assert "state     not enrolled\n" in printed()[0]
    assert page.read_text().startswith("<!doctype html>")
    assert aicert(bench, "resume", str(bench.bundle)) == 0
    assert "ended     1 grant\n" in printed()[0]
    assert aicert(bench, "resume", str(bench.bundle), "--format", "json") == 0
    assert json.loads(printed()[0]) == {"ended": 0}
    assert aicert(bench, "revoke", str(bench.bundle)) == 0
    # Grants that had already ended are not counted.
    assert "revoked   the lease, and with it 0 grants\n" in printed()[0]
    assert aicert(bench, "revoke", str(bench.bundle), "--format", "json") == 0
    assert json.loads(printed()[0]) == {"revoked": 0}
    assert aicert(bench, "status", "--format", "json") == 0
    assert json.loads(printed()[0])[0]["state"] == "revoked"
    assert grant(bench) == 3
    assert printed()[1].startswith("error: the lease is revoked, for good\n")


def test_a_ledger_that_is_not_there(tmp_path: Path, printed: Printed) -> None:
    assert main.main(["lease", "status", "--ledger", str(tmp_path / "none")]) == 3
    assert printed()[1].startswith("error: there is no ledger at ")


def test_a_mistyped_ledger_is_not_resumed(bench: Bench, printed: Printed) -> None:
    """A mistyped path would make a newer ledger, and all machines of the real one would run out."""
    machine = bench.machine()
    words = ["lease", "resume", str(bench.bundle), "--ledger", str(bench.folder / "legder.db")]
    assert main.main(words) == 3
    assert printed()[1].startswith("error: there is no ledger at ")
    assert machine.beat().kind == GRANT


def started(bench: Bench, *more: str) -> int:
    broker_process.write_tls(bench.folder)
    words = broker_process.words(bench.folder, "--policy", "google")
    return main.main([*words, *more])


@pytest.mark.parametrize("address", ["8444", "host", "host:x", ":1", "h:65536", "h:-1"])
def test_an_address_that_is_none(bench: Bench, printed: Printed, address: str) -> None:
    assert started(bench, "--listen", address) == 3
    assert printed()[1].startswith("error: not an address to listen on: ")


def test_addresses() -> None:
    assert commands._address("[::1]:8444") == ("::1", 8444)
    assert commands._address("127.0.0.1:0") == ("127.0.0.1", 0)


def test_without_the_extra_no_broker_runs(
    bench: Bench, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "aicert.broker.server", raising=False)
    assert started(bench) == 2
    assert "pip install '.[broker]'" in printed()[1]


def test_a_tls_key_that_is_none(bench: Bench, printed: Printed, uvicorn: None) -> None:
    for wrong in (bench.folder / "none", bench.ledger):
        assert started(bench, "--tls-key", str(wrong)) == 3
        assert printed()[1].startswith("error: the TLS certificate and key cannot be used: ")


def test_an_address_that_is_taken(bench: Bench, printed: Printed, uvicorn: None) -> None:
    assert started(bench, "--listen", "192.0.2.1:1") == 2
    assert printed()[1].startswith("error: cannot listen on 192.0.2.1:1\n")


def test_a_broker_answers_until_it_is_told_to_end(
    bench: Bench, printed: Printed, uvicorn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bench.grant()
    ready = threading.Event()
    running: list[tuple[int, Callable[[], None]]] = []
    server = commands._room("server")
    serve = server.serve

    def serving(
        app: object, place: object, on_ready: Callable[[int, Callable[[], None]], None]
    ) -> None:
        def both(port: int, end: Callable[[], None]) -> None:
            on_ready(port, end)
            running.append((port, end))
            ready.set()

        serve(app, place, both)

    monkeypatch.setattr(server, "serve", serving)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(started(bench)))
    thread.start()
    assert ready.wait(600)
    ((port, end),) = running
    context = ssl.create_default_context(cafile=str(bench.folder / "tls.pem"))
    for wrong, status in ((token, 200), ("0" * 64, 401)):
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=600)
        connection.request("GET", "/v1/state", headers={"Authorization": f"Bearer {wrong}"})
        assert connection.getresponse().status == status
        connection.close()
    end()
    thread.join()
    assert codes == [0]
    assert printed()[1].startswith(f"listening on https://127.0.0.1:{port}, policy google\n")


def test_who_connects_and_asks_nothing_keeps_nobody_out(
    bench: Bench, uvicorn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection needs no token: idle places become free again."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        # The timeout for the connection's next request.
        monkeypatch.setattr(server, "HEAD_S", 0.01)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    broker_process.write_tls(bench.folder)
    server = commands._room("server")
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(server, "HEAD_S", 0.01)
    running: queue.Queue[tuple[int, Callable[[], None]]] = queue.Queue()
    place = server.Place(
        host="127.0.0.1", port=0, certificate=bench.folder / "tls.pem", key=bench.folder / "tls.key"
    )

    def on_ready(port: int, end: Callable[[], None]) -> None:
        running.put((port, end))

    thread = threading.Thread(target=server.serve, args=(answer, place, on_ready), daemon=True)
    thread.start()
    port, end = running.get(timeout=600)
    context = ssl.create_default_context(cafile=str(bench.folder / "tls.pem"))

    def connected(data: bytes) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", port), timeout=600)
        tls = context.wrap_socket(plain, server_hostname="127.0.0.1")
        with contextlib.suppress(OSError):
            tls.sendall(data)
        return tls

    def rest(tls: ssl.SSLSocket) -> bytes:
        with tls:
            received = b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while part := tls.recv(1 << 16):
                    received += part
            return received

    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    waiting = [connected(data) for data in (b"", b"G", request[:-2])]
    assert [rest(tls) for tls in waiting] == [b"", b"", b""]
    for more in (request[:5], b""):
        monkeypatch.setattr(server, "HEAD_S", 600.0)
        assert rest(connected(request + more)).count(b"HTTP/1.1 204 ") == 1
    end()
    thread.join()


def test_what_opens_a_token_is_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIN", "canary")
    assert "canary" not in repr(commands._keys(argparse.Namespace(password_env="PIN")))


def test_a_broker_that_is_interrupted_has_ended_well(
    bench: Bench, printed: Printed, uvicorn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        commands._log("refused: enrol.nonce: x")
        raise KeyboardInterrupt

    monkeypatch.setattr(commands._room("server"), "serve", interrupted)
    assert started(bench) == 0
    lines = printed()[1].splitlines()
    assert lines[0].endswith("Z  refused: enrol.nonce: x")
    assert lines[1] == "ended"
