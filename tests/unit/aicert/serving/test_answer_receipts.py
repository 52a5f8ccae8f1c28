"""Receipts of answers, as a consumer's side gets and judges them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import AicertError
from aicert.formats.digest import Digest, of_bytes
from aicert.frozen import replace
from aicert.lease import answer_receipts
from aicert.lease.answer_receipts import AnswerReceipt
from aicert.lease.checks import RefusedError
from aicert.leasing import client_receipts
from aicert.serving import receipt_file
from aicert.serving.connections import Judged, open_judged
from aicert.serving.endpoint import Endpoint
from aicert.serving.wire import AnswerError, Head
from enclave_runner.serving.gateway import Gateway
from enclave_runner.serving.requests import CHAT, COMPLETIONS, MODELS
from enclave_runner.serving.signer import Signer
from tests.adversarial import ca_forge
from tests.e2e.serving.stub_engine import StubEngine
from tests.unit.aicert.lease.test_answer_receipts import TOKEN
from tests.unit.aicert.leasing.test_serving import leased
from tests.unit.aicert.serving.machines import MESSAGES, Machine, wanted
from tests.unit.aicert.serving.test_endpoint import ASKED, Client

NONCE = "0e" * 32
BODY = json.dumps({"max_tokens": 3, "messages": MESSAGES}).encode()
STREAMED = json.dumps({"max_tokens": 3, "messages": MESSAGES, "stream": True}).encode()
OTHER = Digest("sha256", "0" * 64)


class Forging(Signer):
    """A signer of changed receipts: a machine never does this, an impostor might."""

    def __init__(self, *given: Any, key: Any = None, **changes: Any) -> None:
        super().__init__(*given)
        self._key = key or self._identity.key
        self._changes = changes

    def sign(self, *given: Any) -> bytes:
        receipt = answer_receipts.verify(super().sign(*given)).receipt
        return answer_receipts.sign(self._key, replace(receipt, **self._changes))


class Silent(Signer):
    """A signer that returns no receipt."""

    def sign(self, *_: Any) -> bytes:
        return b""


class Babbling(Signer):
    """A signer whose receipt has no valid form."""

    def sign(self, *_: Any) -> bytes:
        return b"?"


def read(connection: Judged, head: Head) -> bytes:
    if head.length is None:
        return b"".join(connection.events())
    return connection.whole(head)


@pytest.mark.parametrize("body", [BODY, STREAMED])
def test_an_answer_comes_with_its_receipt(stub: StubEngine, body: bytes) -> None:
    with Machine(stub) as machine:
        connection = open_judged(wanted(machine.port))
        tokens: list[AnswerReceipt] = []
        for _ in range(2):
            head = connection.ask("POST", CHAT, body, nonce=NONCE)
            data = read(connection, head)
            signed = answer_receipts.verify(connection.receipt(head, of_bytes(data)))
            assert signed.boot == machine.identity.boot
            tokens.append(signed.receipt)
            assert f'"id":"aicert-{signed.receipt.answer}"'.encode() in data
        assert [one.number for one in tokens] == [1, 2]
        assert (tokens[0].tokens_in, tokens[0].tokens_out) == (7, 3)
        assert (tokens[0].model, tokens[0].request) == (leased().model, of_bytes(body))
        # A client that asks for no receipt gets none.
        head = connection.ask("POST", CHAT, body)
        assert connection.receipt(head, of_bytes(read(connection, head))) == b""
        connection.close()


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("answer.signature", {"key": ca_forge.ec_key("stranger")}),
        ("answer.fresh", {"nonce": "0f" * 32}),
        ("answer.channel", {"evidence": OTHER}),
        ("answer.body", {"lease": "0" * 32}),
        ("answer.body", {"model": Digest("dirHash", "0" * 64)}),
        ("answer.body", {"request": OTHER}),
        ("answer.body", {"response": OTHER}),
    ],
)
@pytest.mark.parametrize("body", [BODY, STREAMED])
def test_a_receipt_of_something_else_is_refused_by_its_check(
    stub: StubEngine, check: str, changes: Any, body: bytes
) -> None:
    with Machine(stub, signer=partial(Forging, **changes)) as machine:
        connection = open_judged(wanted(machine.port))
        head = connection.ask("POST", CHAT, body, nonce=NONCE)
        with pytest.raises(RefusedError) as refused:
            connection.receipt(head, of_bytes(read(connection, head)))
        assert refused.value.check == check
        connection.close()


@pytest.mark.parametrize("body", [BODY, STREAMED])
def test_an_answer_without_the_receipt_that_was_asked_for(stub: StubEngine, body: bytes) -> None:
    with Machine(stub, signer=Silent) as machine:
        connection = open_judged(wanted(machine.port))
        head = connection.ask("POST", CHAT, body, nonce=NONCE)
        with pytest.raises(AnswerError, match="no receipt, which was asked for"):
            connection.receipt(head, of_bytes(read(connection, head)))
        connection.close()


@pytest.mark.parametrize("body", [BODY, STREAMED])
def test_a_receipt_that_nobody_asked_for(
    stub: StubEngine, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs: Any = lambda *_: lambda *_: TOKEN  # noqa: E731
    monkeypatch.setattr(Gateway, "_receipts", signs)
    with Machine(stub) as machine:
        connection = open_judged(wanted(machine.port))
        with pytest.raises(AnswerError, match="a receipt, which nobody asked for"):
            head = connection.ask("POST", CHAT, body)
            connection.receipt(head, of_bytes(read(connection, head)))
        connection.close()


def test_an_endpoint_keeps_a_receipt_of_each_answer(stub: StubEngine, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    with (
        Machine(stub) as machine,
        Endpoint(wanted(machine.port), keep=receipt_file.keep_in(path)) as endpoint,
    ):
        client = Client(endpoint)
        assert client.ask(MODELS, None, "GET")[0] == 200
        status, document = client.ask()
        # The client gets its answer as before, and a refused request has no receipt.
        assert (status, document["choices"][0]["message"]["content"]) == (200, "one two three")
        assert client.ask(COMPLETIONS, {"prompt": "x", "max_tokens": 1})[0] == 200
        assert client.ask(CHAT, ASKED | {"n": 2})[0] == 400
        client.request("POST", CHAT, json.dumps(ASKED | {"stream": True}))
        assert client.getresponse().read().endswith(b"data: [DONE]\n\n")
        client.close()
        assert endpoint.error is None
    tokens = client_receipts.parse_lines(path.read_bytes())
    assert [answer_receipts.verify(one).receipt.number for one in tokens] == [1, 2, 3]


@pytest.mark.parametrize(
    ("signer", "code"),
    [
        (partial(Forging, response=OTHER), "answer.body"),
        (Silent, "endpoint"),
        (Babbling, "endpoint"),
    ],
)
def test_an_answer_with_a_wrong_receipt_is_the_last(
    stub: StubEngine, signer: Callable[..., Signer], code: str, tmp_path: Path
) -> None:
    path = tmp_path / "answers"
    with (
        Machine(stub, signer=signer) as machine,
        Endpoint(wanted(machine.port), keep=receipt_file.keep_in(path)) as endpoint,
    ):
        client = Client(endpoint)
        status, document = client.ask()
        assert (status, document["error"]["code"]) == (502, code)
        client.close()
        with pytest.raises(AicertError):
            endpoint.wait()
    assert path.read_bytes() == b""
