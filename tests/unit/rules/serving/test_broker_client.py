"""The courier's client, with brokers that begin an answer and never end it."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError
from rules.serving import broker_client
from rules.serving.broker_client import Desk, RefusedHereError, SilentError
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


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (403, b'{"check":"enrol.chain","error":"e"}', "send the custodian .aicert/ca/DRIVER.pem"),
        (403, b'{"check":"enrol.tier","error":"e"}', None),
        (403, b'{"check":7,"error":"e"}', None),
        (401, b'{"error":"e"}', "ask the custodian for a token"),
        (400, b"<html>", None),
    ],
)
def test_a_refusal_says_what_the_borrower_can_do(
    tmp_path: Path, status: int, body: bytes, hint: str | None
) -> None:
    context, pem = tls(tmp_path)
    with (
        site(lambda request: Reply(status=status, body=body), context) as running,
        pytest.raises(RefusedHereError, match=r"^the broker (says: e|answered 400)$") as refused,
    ):
        Desk(running.url, "token", pem).challenge()
    assert (refused.value.hint or "").startswith(hint or "")
    assert (refused.value.hint is None) == (hint is None)


def test_a_broker_that_is_not_there_is_to_be_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SilentError, match="does not answer") as silent:
        Desk("https://127.0.0.1:1", "token").challenge()
    assert "`broker` in [leases.NAME]" in (silent.value.hint or "")
    with pytest.raises(ConfigError, match="cannot read the broker's root") as absent:
        Desk("https://127.0.0.1:1", "token", tmp_path / "none.pem")
    assert (absent.value.hint or "").startswith("broker-root = ")
