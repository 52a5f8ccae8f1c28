"""The courier's client, with brokers that begin an answer and never end it."""

from pathlib import Path

import pytest

from rules.serving import broker_client
from rules.serving.broker_client import Desk, SilentError
from tests.unit.servers import Reply, site, tls, unfinished


@pytest.mark.parametrize(
    "beginning", [b"HTTP/1.1 200 OK\r\nServer: s", b"HTTP/1.1 200 OK\r\n\r\nhalf"]
)
def test_a_broker_that_never_ends_its_answer_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    """The courier tries again, as if nobody had answered."""
    monkeypatch.setattr(broker_client, "_EXCHANGE_S", 0.3)
    context, pem = tls(tmp_path)
    with (
        unfinished(beginning, context) as url,
        pytest.raises(SilentError, match=f"broker {url} answers too slowly"),
    ):
        Desk(url, "token", pem).receipt(b"receipt")


def test_a_broker_that_answers_is_heard(tmp_path: Path) -> None:
    context, pem = tls(tmp_path)
    with site(lambda request: Reply(body=b"order"), context) as running:
        assert Desk(running.url, "token", pem).receipt(b"receipt") == b"order"
    (request,) = running.requests
    assert (request.path, request.headers["Authorization"]) == ("/v1/receipt", "Bearer token")
