"""A server that begins an answer and never ends it holds nobody up.

The limits for single reads are a minute, so whatever ends sooner was ended by the deadline.
"""

import socket
from pathlib import Path

import pytest

from aicert.errors import ToolError
from aicert.sources import log_server, time_authority
from aicert.sources.deadline import Deadline
from aicert.sources.log_server import LogSite, add_checkpoint
from tests.unit.servers import Reply, site, tls, unfinished

HEADERS = b"HTTP/1.1 200 OK\r\nServer: s"
# Without a length, the end of the connection is that of the body.
BODY = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (log_server, time_authority):
        monkeypatch.setattr(module, "exchange_s", lambda limit: 0.3)


@pytest.mark.parametrize("beginning", [b"", HEADERS, BODY])
@pytest.mark.parametrize("is_tls", [False, True])
def test_an_answer_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beginning: bytes, is_tls: bool
) -> None:
    context, pem = tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with unfinished(beginning, context if is_tls else None) as url:
        with pytest.raises(ToolError, match="answers too slowly") as caught:
            add_checkpoint(url, b"old 0\n")
        assert url in caught.value.message
        with LogSite(url) as log, pytest.raises(ToolError, match="checkpoint' answers too slowly"):
            log.read("checkpoint", 100)
        with pytest.raises(ToolError, match=r"the time authority .* answers too slowly"):
            time_authority.ask(url, bytes(32), 1)


def test_an_earlier_connection_that_is_used_again_is_ended_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No connection is made then."""
    limits = iter((30.0, 0.3))
    monkeypatch.setattr(log_server, "exchange_s", lambda limit: next(limits))
    beginning = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with unfinished(beginning) as url, LogSite(url) as log:
        assert log.read("checkpoint", 2) == b"ok"
        # The server has answered once on this connection, and never does again.
        with pytest.raises(ToolError, match="answers too slowly"):
            log.read("checkpoint", 2)


def test_what_ends_in_time_ends_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_server, "exchange_s", lambda limit: 30.0)
    with site(lambda request: Reply(body=b"ok")) as running:
        assert add_checkpoint(running.url, b"") == (200, b"ok")
    with pytest.raises(KeyError), Deadline().within(30, "it"):
        raise KeyError


def test_a_connection_made_after_the_deadline_is_ended_at_once() -> None:
    deadline = Deadline()
    deadline._end()
    here, there = socket.socketpair()
    with here, there:
        deadline.watch(here)
        assert there.recv(1) == b""
    # One that is closed by now is no error, and none is kept after it was closed.
    deadline.watch(here)
    deadline.watch(there)
    assert deadline._sockets == [there]
