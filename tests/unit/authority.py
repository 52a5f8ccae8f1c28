"""A time authority on this computer, over the real protocol."""

from collections.abc import Iterator
from typing import Any

import pytest

from aicert.formats.der import SEQUENCE, Der, encode, encode_integer
from tests.adversarial.time_forge import Token, integer
from tests.unit.servers import Reply, Request, Site, site


class Authority:
    """A server that answers each request with a stamp of `token`, with `changes` applied."""

    def __init__(self) -> None:
        self.token = Token()
        self.changes: dict[str, Any] = {}

    def answer(self, request: Request) -> Reply:
        query = Der(request.body, "request").inside(SEQUENCE)
        query.integer()
        imprint = query.inside(SEQUENCE)
        imprint.take(SEQUENCE)
        digest, nonce = imprint.take(4).content, query.integer()
        asked = {"digest": digest, "more_info": integer(nonce)}
        token = self.token.with_(**asked | self.changes)
        granted = encode(SEQUENCE, encode_integer(0))
        return Reply(body=encode(SEQUENCE, granted, token.der()))


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def running(authority: Authority) -> Iterator[Site]:
    with site(authority.answer) as server:
        yield server
