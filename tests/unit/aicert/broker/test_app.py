"""The application as a server calls it: what a courier may send, and which answers he gets."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from aicert.broker import generation
from aicert.broker.app import BODY_S, MAX_BOOT, ROUTES, App
from aicert.broker.broker import Broker
from aicert.errors import UndecidedError
from aicert.lease import enrolment
from aicert.leasing import packing
from tests.adversarial import enrolment_forge
from tests.unit.aicert.broker.forged import SECRETS, TERMS, Bench, Machine

STATE = "/v1/state"


@dataclass
class Reply:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Desk:
    """The application of a bench's broker, with the lines that it logged."""

    bench: Bench
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app = App(self.bench.broker, self.lines.append)

    def ask(
        self, path: str, body: bytes = b"", *, token: str | None = None, parts: Any = None,
        **scope: Any,
    ) -> Reply:  # fmt: skip
        headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
        given = {
            "type": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
            "method": ROUTES[path].method if path in ROUTES else "GET", "headers": headers,
        }  # fmt: skip
        messages = iter(parts or [{"type": "http.request", "body": body}])
        sent: list[Any] = []

        async def receive() -> Any:
            try:
                return next(messages)
            except StopIteration:
                # No more messages come, and the client stays connected.
                await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app({**given, **scope}, receive, send))
        if not sent:
            return Reply(0, {}, b"")
        return Reply(sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"])


@pytest.fixture
def desk(bench: Bench) -> Iterator[Desk]:
    desk = Desk(bench)
    yield desk
    desk.app.close()


def test_a_courier_goes_through_every_route(desk: Desk) -> None:
    bench = desk.bench
    token = bench.grant()
    nonce = bytes.fromhex(desk.ask("/v1/challenge", token=token).document["nonce"])
    shown = enrolment.emit(enrolment_forge.Scene(nonce=nonce, bound_nonce=nonce).signed())
    answer = desk.ask("/v1/enrol", shown, token=token)
    assert (answer.status, set(answer.document)) == (200, {"blob"})
    assert answer.headers[b"content-length"] == str(len(answer.body)).encode()
    machine = Machine(bench, token)
    for kind in ("grant", "stop"):
        asked = desk.ask("/v1/nonce", json.dumps({"boot": machine.boot}).encode(), token=token)
        given = asked.document
        assert (given["seq"], given["head"]) == (machine.seq, machine.head)
        data = machine.sign(bytes.fromhex(given["nonce"]))
        answer = desk.ask("/v1/receipt", data, token=token)
        assert answer.headers[b"cache-control"] == b"no-store"
        order = machine.accepted(answer.body, data)
        assert order.kind == kind
        assert desk.ask("/v1/end", token=token).status == 204
    assert machine.heartbeat is not None
    last = machine.sign(bytes.fromhex(machine.heartbeat.nonce))
    answer = desk.ask("/v1/receipt", last, token=token)
    assert (answer.status, answer.body, b"content-length" in answer.headers) == (204, b"", False)
    state = desk.ask(STATE, token=token).document
    assert state == {
        "budget": 100_000, "charged": 0, "enrolled": True, "head": machine.head,
        "lease": TERMS.lease, "revoked": False, "seq": 3, "tokensIn": 0, "tokensOut": 0,
        "until": bench.now + 86_400,
    }  # fmt: skip
    assert desk.lines == []


def test_what_is_no_request_of_a_courier(desk: Desk) -> None:
    token = desk.bench.grant()
    assert desk.ask(STATE, token=token).status == 200
    assert desk.ask(STATE, token=token, method="POST").status == 405
    assert desk.ask("/v1/end", token=token, method="GET").status == 405
    for path in ("/", "/v1/state/", "/v1//state", "/v1/STATE", "/metrics", "/v1/state/../end"):
        assert desk.ask(path, token=token).status == 404
    assert desk.ask(STATE, token=token, query_string=b"a").status == 404
    assert desk.ask(STATE, token=token, raw_path=b"/v1/%73tate").status == 404
    # Connections of other kinds get no answer.
    assert desk.ask(STATE, type="websocket").status == 0


def test_a_token_is_asked_for_before_anything_is_read(desk: Desk) -> None:
    token = desk.bench.grant()
    never = [{"type": "http.request", "body": b"x", "more_body": True}]
    for headers in (
        [],
        [(b"authorization", b"Basic " + token.encode())],
        [(b"authorization", b"Bearer " + token.encode())] * 2,
        [(b"authorization", b"Bearer \xff" + token.encode()[1:])],
        [(b"authorization", b"Bearer " + b"0" * 64)],
    ):
        answer = desk.ask("/v1/enrol", parts=never, headers=headers)
        assert (answer.status, answer.headers[b"connection"]) == (401, b"close")


def test_bodies_are_bounded_in_size_and_time(desk: Desk) -> None:
    token = desk.bench.grant()
    big = b"x" * (enrolment.MAX_BYTES + 1)
    answer = desk.ask("/v1/enrol", big, token=token)
    assert (answer.status, "131072" in answer.document["error"]) == (413, True)
    half = {"type": "http.request", "body": big[: len(big) // 2 + 1], "more_body": True}
    assert desk.ask("/v1/enrol", parts=[half, half], token=token).status == 413
    assert desk.ask("/v1/nonce", b" " * (MAX_BOOT + 1), token=token).status == 413
    assert desk.ask(STATE, b"x", token=token).status == 413
    assert desk.ask("/v1/enrol", parts=[{"type": "http.disconnect"}], token=token).status == 413
    assert BODY_S > 0
    desk.app = App(desk.bench.broker, desk.lines.append, body_s=0.01)
    slow = [{"type": "http.request", "body": b"x", "more_body": True}]
    assert desk.ask("/v1/enrol", parts=slow, token=token).status == 408
    desk.app.close()


def test_refusals_name_the_check_and_are_kept_for_the_custodian(desk: Desk) -> None:
    token = desk.bench.grant()
    desk.ask("/v1/challenge", token=token)
    shown = enrolment.emit(enrolment_forge.Scene().signed())
    answer = desk.ask("/v1/enrol", shown, token=token)
    assert (answer.status, answer.document["check"]) == (403, "enrol.nonce")
    assert desk.lines[-1].startswith("refused: enrol.nonce: ")
    for body in (b"", b"{", b"[" * 99, b"\xff", shown[:-1]):
        assert desk.ask("/v1/enrol", body, token=token).status == 400
    for body in (b"{}", b'{"boot":"B0"}', b'{"boot":1}', b'{"boot":"%b","x":1}' % (b"b0" * 32)):
        assert desk.ask("/v1/nonce", body, token=token).status == 400
    with desk.bench.store.transaction() as rows:
        (grant,) = rows.grants(TERMS.lease)
    assert grant.refusal is not None
    assert grant.refused_at == desk.bench.now


def test_a_boot_that_has_to_wait_is_told_how_long(desk: Desk) -> None:
    machine = desk.bench.machine()
    machine.beat()
    answer = desk.ask("/v1/nonce", json.dumps({"boot": "b1" * 32}).encode(), token=machine.token)
    assert (answer.status, answer.headers[b"retry-after"]) == (409, b"180")


def test_no_verdict_is_not_a_refusal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def undecided(*_: object) -> None:
        raise UndecidedError("of a kind that nobody reads yet")

    monkeypatch.setattr(Broker, "enrol", undecided)
    assert desk.ask("/v1/enrol", b"x", token=desk.bench.grant()).status == 422


def test_what_is_wrong_at_the_custodians_is_his_to_read(desk: Desk) -> None:
    machine = desk.bench.machine()
    machine.beat()
    with generation.held(desk.bench.bundle) as held:
        held.record(99)
    answer = desk.ask("/v1/nonce", json.dumps({"boot": machine.boot}).encode(), token=machine.token)
    assert answer.status == 503
    assert str(desk.bench.folder) not in answer.body.decode()
    assert desk.lines == [
        "cannot answer: the ledger is older than what was given: it is at 3, its lease at 99"
    ]


def test_a_clock_that_was_set_back_gives_nothing(desk: Desk) -> None:
    machine = desk.bench.machine()
    desk.bench.now += 1000
    machine.beat()
    boot = json.dumps({"boot": machine.boot}).encode()
    desk.bench.now -= 6
    answer = desk.ask("/v1/nonce", boot, token=machine.token)
    assert (answer.status, set(answer.document)) == (503, {"error"})
    (line,) = desk.lines
    assert line.startswith("cannot answer: the clock is 6 s behind the newest entry of the ledger")
    desk.bench.now += 1
    assert desk.ask("/v1/nonce", boot, token=machine.token).status == 200


def test_a_defect_is_an_answer_without_values(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError(f"secret {SECRETS[0].hex()}")

    monkeypatch.setattr(Broker, "state", broken)
    answer = desk.ask(STATE, token=desk.bench.grant())
    assert (answer.status, answer.document) == (500, {"error": "a defect of the broker"})
    assert desk.lines == ["a defect of the broker: ValueError"]


def test_a_refusal_that_cannot_be_written_down_is_told_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = desk.bench.grant()
    # The disk is full when it writes a note for the custodian alone.
    with desk.bench.store.transaction() as rows:
        rows._db.execute(
            "CREATE TRIGGER full BEFORE UPDATE OF refusal ON grants"
            " BEGIN SELECT raise(ABORT, 'full'); END"
        )
    assert desk.ask("/v1/enrol", b"{", token=token).status == 403
    assert desk.lines[-1].endswith("fails: full")


def test_secrets_are_in_no_answer_log_file_or_representation(desk: Desk) -> None:
    """Row 36: after every failure that these tests know, no output contains a canary."""
    bench, seen = desk.bench, []
    token = bench.grant()
    machine = Machine(bench, token)
    bodies = [b"", b"{", machine.signed(b"\x77" * 32)]
    seen += [desk.ask(path, body, token=token).body for path in ROUTES for body in bodies]
    bench.enrol(token)
    machine.beat()
    seen += [desk.ask(path, body, token=token).body for path in ROUTES for body in bodies]
    packing.keys_path(bench.bundle).write_bytes(b"{" + SECRETS[1].hex().encode())
    nonce = bench.broker.nonce(token, machine.boot).nonce
    seen.append(desk.ask("/v1/receipt", machine.signed(nonce), token=token).body)
    seen += [repr(thing).encode() for thing in (bench.broker, bench.store, desk.app)]
    seen += [line.encode() for line in desk.lines]
    written = [path for path in bench.folder.iterdir() if path.is_file()]
    assert bench.ledger in written
    seen += [path.read_bytes() for path in written if path != packing.keys_path(bench.bundle)]
    assert any(b"refused" in text for text in seen)
    for secret in (*SECRETS, bytes.fromhex(token)):
        for form in (secret, secret.hex().encode(), repr(secret).encode()):
            assert not [text for text in seen if form in text]
