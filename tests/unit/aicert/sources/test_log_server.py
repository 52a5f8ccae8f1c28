"""HTTP requests to logs and witnesses, and every kind of invalid answer."""

import pytest

from aicert.errors import ConfigError, ToolError
from aicert.sources.log_server import MAX_ANSWER, LogSite, add_checkpoint, check_url
from aicert.sources.transfer import READ_S, new_client, small_answer
from tests.unit.servers import Reply, nobody, site


def test_a_checkpoint_is_posted_below_the_witness_s_address() -> None:
    with site(lambda request: Reply(status=409, body=b"7\n")) as running:
        assert add_checkpoint(f"{running.url}/w/", b"old 0\n") == (409, b"7\n")
    (request,) = running.requests
    assert (request.method, request.path, request.body) == ("POST", "/w/add-checkpoint", b"old 0\n")


def test_a_redirect_is_not_followed() -> None:
    with site(lambda request: Reply()) as other:
        reply = Reply(status=307, headers={"Location": other.url})
        with site(lambda request: reply) as running:
            with pytest.raises(ToolError, match="redirects elsewhere"):
                add_checkpoint(running.url, b"")
            with LogSite(running.url) as log, pytest.raises(ToolError, match="elsewhere"):
                log.read("checkpoint", 10)
        assert not other.requests


def test_an_answer_is_bounded_and_nobody_is_an_error() -> None:
    with (
        site(lambda request: Reply(body=bytes(MAX_ANSWER + 1))) as running,
        pytest.raises(ToolError, match="answers with more than"),
    ):
        add_checkpoint(running.url, b"")
    with nobody() as url, pytest.raises(ToolError, match="cannot reach"):
        add_checkpoint(url, b"")


def test_who_answers_a_byte_at_a_time_does_not_hold_on_to_anybody() -> None:
    with (
        site(lambda request: Reply(body=b"abc")) as running,
        new_client() as client,
        client.stream("GET", f"{running.url}/checkpoint") as answer,
        pytest.raises(ToolError, match="/checkpoint' answers too slowly"),
    ):
        small_answer(answer, 3, clock=iter((0.0, READ_S + 1)).__next__)


def test_a_file_of_a_log_is_there_or_not() -> None:
    replies = {"/l/checkpoint": Reply(body=b"abc"), "/l/gone": Reply(status=404)}
    with site(lambda request: replies.get(request.path, Reply(status=403))) as running:
        with LogSite(f"{running.url}/l/") as log:
            assert log.read("checkpoint", 3) == b"abc"
            assert log.read("gone", 3) is None
            with pytest.raises(ToolError, match="answers 403"):
                log.read("tile/0/000", 3)
            with pytest.raises(ToolError, match="more than 2 bytes"):
                log.read("checkpoint", 2)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "log.example",
        "ftp://log.example",
        "https://",
        "https://[log",
        "https://log.example/\n",
        "https://me:secret@log.example/",
        "https://log.example/?a=b",
        "https://log.example/#a",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
