"""Requests to a time authority, and every kind of invalid answer."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aicert.appraisal.evidence.trusted_time import read_signed
from aicert.errors import AicertError, ConfigError, EvidenceError, ToolError
from aicert.formats import der
from aicert.sources.time_authority import MAX_ANSWER, ask, token_of
from tests import time_authority
from tests.unit.servers import Reply, Site, nobody, site
from tests.vectors.tools import needs_openssl

DIGEST = hashlib.sha256(b"certificate").digest()


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[Site]:
    with site(lambda request: Reply(status=status, body=body)) as running:
        yield running


def refusal(status: int, *texts: bytes) -> bytes:
    words = [der.encode(der.SEQUENCE, *(der.encode(0x0C, one) for one in texts))] if texts else []
    information = der.encode(der.SEQUENCE, der.encode_integer(status), *words)
    return der.encode(der.SEQUENCE, information)


@needs_openssl
def test_openssl_understands_the_question_and_we_its_answer(tmp_path: Path) -> None:
    authority = time_authority.set_up(tmp_path)
    with site(lambda request: Reply(body=authority.reply(request.body))) as running:
        token = read_signed(ask(f"{running.url}/stamp", DIGEST, 2**62 + 1))
    assert (token.imprint, token.nonce) == (("sha256", DIGEST.hex()), 2**62 + 1)
    (request,) = running.requests
    assert (request.method, request.path) == ("POST", "/stamp")
    assert request.headers["Content-Type"] == "application/timestamp-query"


def refused(url: str) -> AicertError:
    with pytest.raises(AicertError) as caught:
        ask(url, DIGEST, 1)
    return caught.value


def test_what_is_no_answer_is_refused() -> None:
    with answering(b"", 503) as running:
        assert "answers 503" in refused(running.url).message
    with answering(bytes(MAX_ANSWER + 1)) as running:
        assert "more than a time stamp" in refused(running.url).message
    with nobody() as url:
        error = refused(url)
    assert isinstance(error, ToolError)
    assert error.message.startswith("cannot reach the time authority")
    assert isinstance(refused("ftp://tsa.example"), ConfigError)
    assert isinstance(refused("http://[tsa"), ToolError)


def test_a_refusal_is_shown_with_its_words() -> None:
    with answering(refusal(2, b"no\x1b[31m", b"\xff")) as running:
        error = refused(running.url)
    assert error.message == "the time authority refuses: status 2, 'no\\x1b[31m', '\\ufffd'"
    with pytest.raises(ToolError, match=r"^the time authority refuses: status 5$"):
        token_of(refusal(5))


@pytest.mark.parametrize("answer", [b"", b"<html>", refusal(0), refusal(0) + b"\0"])
def test_what_is_no_response_is_refused(answer: bytes) -> None:
    with pytest.raises(EvidenceError, match="answer of the time authority"):
        token_of(answer)
