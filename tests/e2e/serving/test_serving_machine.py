"""One boot of a serving machine, on a real software TPM: from enrolment to a kill receipt.

The custodian types `aicert lease`. This test signs the orders itself, without a broker. The engine
is a stub behind the real gateway.
"""

import http.client
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.appraisal.appraise import appraise
from aicert.appraisal.result import AttestationResult
from aicert.formats import certificate as certificates
from aicert.formats.measurement import replay
from aicert.lease import courier, custody, licence, orders, receipts, terms
from aicert.lease.checks import RefusedError
from aicert.lease.courier import Message
from aicert.lease.licence import Licence
from aicert.lease.orders import Order
from aicert.leasing import serving as judging
from aicert.leasing.serving import Served
from aicert.trust.built_in import built_in, with_root
from enclave_runner.serving import load, tls
from enclave_runner.serving.lease_tpm import LeaseTpm
from enclave_runner.serving.machine import Machine, Place
from enclave_runner.serving.opened import WATCH_S, Opened
from rules.machines.ca import Ca
from tests.adversarial.forger import Scene
from tests.e2e.lease.lease_tpm import BorrowersTpm
from tests.e2e.lease.test_lease_story import NONCE, issue, judged, pack
from tests.e2e.serving import stub_engine
from tests.e2e.serving.serving_client import CHAT, Client
from tests.e2e.serving.stub_engine import StubEngine
from tests.unit.aicert.cli.test_main import lay_out
from tests.unit.enclave_runner.serving.test_load import FILES
from tests.unit.signing_keys import Printed

MODEL_TYPES = frozenset(("llama",))


@pytest.fixture
def folder(tmp_path: Path, ca: Ca) -> Path:
    (tmp_path / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    return lay_out(scene(), tmp_path)


@pytest.fixture
def stub(power: BorrowersTpm) -> Iterator[StubEngine]:
    """Run a stub engine whose socket is where names are short."""
    with stub_engine.running(power.folder) as stub:
        yield stub


def scene() -> Scene:
    return Scene().edit("outputs", lambda _: {"model": FILES})


def certified(folder: Path) -> AttestationResult:
    """Return the consumer's own appraisal of the certificate."""
    given = scene()
    certificate = certificates.parse((folder / "c.json").read_bytes())
    return appraise(certificate, None, given.get("policy"), at=given.at)


class Courier:
    """A courier that hands lines to a machine, and keeps the machine's messages."""

    def __init__(
        self, folder: Path, tpm: LeaseTpm, stub: StubEngine, number: int = 0, port: int = 0,
        **more: Any,
    ) -> None:  # fmt: skip
        self.lines: list[Message] = []
        self.folder = folder
        room = folder / f"boot{number}"
        room.mkdir()
        for name in ("memory", "copies"):
            (room / name).mkdir()
        self.memory = room / "memory"
        place = Place(
            memory=self.memory, copies=room / "copies", address=("127.0.0.1", port),
            model_types=MODEL_TYPES, start=stub.give,
        )  # fmt: skip
        offered = load.read_bundle(folder / "bot")
        self.terms = offered.terms
        self.identity = tls.make_identity()
        self._lock = threading.Lock()
        self.machine = Machine(tpm, offered, place, self.identity, self._take, **more)

    def _take(self, message: Message) -> None:
        with self._lock:
            self.lines.append(courier.parse(courier.emit(message), courier.TELLS))

    def ask(self, kind: str, data: bytes = b"", **numbers: int) -> Message:
        """Send a message. Returns the machine's last immediate message, other than its state."""
        before = len(self.of())
        message = Message(kind=kind, data=data, numbers=tuple(numbers.items()))
        self.machine.handle(courier.emit(message))
        new = self.of()[before:]
        return new[-1] if new else Message(kind="nothing")

    def of(self, *kinds: str) -> list[Message]:
        with self._lock:
            wanted = kinds or set(courier.TELLS) - {courier.STATE}
            return [line for line in self.lines if line.kind in wanted]

    @property
    def port(self) -> int:
        (serving,) = self.of(courier.SERVING)
        return serving.number["port"]

    def enrol_and_issue(self, *more: str) -> Licence:
        shown = self.ask(courier.ENROL, NONCE)
        (self.folder / "enrolment.json").write_bytes(shown.data)
        assert issue(self.folder, *more) == 0
        self.ask(courier.BLOB, (self.folder / "issued/blob").read_bytes())
        return licence.parse((self.folder / "issued/licence").read_bytes())

    def ordered(self, kind: str, **changes: Any) -> bytes:
        """Return an order of the custodian that answers the last receipt, unless `changes` say
        otherwise.
        """
        kept = custody.parse((self.folder / "bot.keys").read_bytes())
        last = receipts.parse(self.of(courier.RECEIPT)[-1].data)
        heartbeat = receipts.parse_heartbeat(last.body)
        given: dict[str, Any] = {
            "kind": kind, "lease": self.terms.lease, "terms": self.terms.digest,
            "boot": heartbeat.boot, "epoch": 1, "seq": heartbeat.seq,
            "answers": receipts.digest(last).hex, "generation": heartbeat.seq,
        }  # fmt: skip
        if kind == orders.GRANT:
            given["licence"] = (self.folder / "issued/licence").read_bytes()
            if heartbeat.half_for:
                half = orders.seal_half(kept.broker_half, heartbeat, self.terms.digest)
                given["half"] = half
        return orders.emit(orders.sign(kept.key, Order(**given | changes)))

    def grant(self, epoch: int) -> Message:
        self.ask(courier.HEARTBEAT, b"\x0e" * 32)
        return self.ask(courier.ORDER, self.ordered(orders.GRANT, epoch=epoch))

    def keep_receipts(self) -> None:
        lines = b"".join(line.data + b"\n" for line in self.of(courier.RECEIPT))
        with (self.folder / "receipts.jsonl").open("ab") as file:
            file.write(lines)


def appraised(client: Client, folder: Path) -> Served:
    """Appraise the machine at the other end, as a consumer who trusts the test's CA does."""
    channel, shown = client.evidence()
    policy = with_root(built_in("local"), (folder / "platform.pem").read_bytes(), "platform.pem")
    agreed = terms.parse((folder / "bot/terms.toml").read_bytes())
    return judging.appraise(
        shown, channel, policy, lease=agreed.lease, certified=certified(folder),
        at=datetime.now(UTC),
    )  # fmt: skip


def count(folder: Path) -> int:
    words = ["receipts", str(folder / "receipts.jsonl"), "--enrolment"]
    return judged(folder, *words, str(folder / "enrolment.json"))


def test_a_machine_serves_until_it_is_revoked(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed
) -> None:
    agreed = pack(folder)
    with power.on() as opened, LeaseTpm(opened) as tpm:
        first = Courier(folder, tpm, stub)
        given = first.enrol_and_issue()
        # Without the broker's half nothing can be opened, with or without a licence.
        refused = first.ask(courier.LICENCE, licence.emit(given))
        assert refused.data.startswith(b"order.answer: a licence of this lease comes with an order")
        assert first.grant(given.bounds.epoch).kind == courier.SERVING
        assert {path.name for path in first.memory.iterdir()} == set(FILES)
        assert set(stub.files) == set(FILES)
        with Client(first.port) as client:
            assert appraised(client, folder).statement.model == agreed.model
            answer = client.chat().document
            first.ask(courier.HEARTBEAT, b"\x0d" * 32)
            revoked = first.ordered(orders.REVOKE, epoch=given.bounds.epoch)
            assert first.ask(courier.ORDER, revoked).data == b"revoke"
            assert client.is_closed()
        assert answer["choices"][0]["message"]["content"] == "one two three"
        assert answer["usage"] == {
            "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
        }  # fmt: skip
        assert "secret" not in json.dumps(answer)
        assert not stub.alive
        assert list(first.memory.iterdir()) == []
        assert first.machine.over.is_set()
        first.keep_receipts()
    with power.on() as opened, LeaseTpm(opened) as tpm:
        # Licences issued before open nothing any more, in whichever boot.
        second = Courier(folder, tpm, stub, 1)
        second.ask(courier.BLOB, (folder / "issued/blob").read_bytes())
        last = receipts.parse(first.of(courier.RECEIPT)[-2].data)
        head = bytes.fromhex(receipts.digest(last).hex)
        second.ask(courier.RESUME, head, seq=receipts.parse_heartbeat(last.body).seq)
        refused = second.grant(tpm.epoch())
        assert b"a term of the licence is not met" in refused.data
    printed()
    assert count(folder) == 0
    text = printed()[0]
    assert "\ntokens    7 in, 3 out, 0 refused, of 1 request\n" in text
    assert "\nended     by order revoke: the epoch is " in text


@pytest.mark.parametrize("kind", [orders.REVOKE, orders.STOP])
def test_a_machine_that_is_ended_before_it_opens_signs_receipts_that_follow(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed, kind: str
) -> None:
    """Its last receipt asks for no half of the key again, which every ledger would refuse."""
    pack(folder)
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = Courier(folder, tpm, stub)
        epoch = carried.enrol_and_issue().bounds.epoch
        carried.ask(courier.HEARTBEAT, NONCE)
        assert carried.ask(courier.ORDER, carried.ordered(kind, epoch=epoch)).data == kind.encode()
        carried.keep_receipts()
    printed()
    assert count(folder) == 0
    text = printed()[0]
    assert "\ntokens    0 in, 0 out, 0 refused, of 0 requests\n" in text
    assert f"\nended     by order {kind}: the epoch is " in text


def offline(
    folder: Path, tpm: LeaseTpm, stub: StubEngine, number: int = 0, port: int = 0
) -> Courier:
    """Return a machine that serves without a broker."""
    carried = Courier(folder, tpm, stub, number, port)
    given = carried.enrol_and_issue("--offline")
    assert carried.ask(courier.LICENCE, licence.emit(given)).kind == courier.SERVING
    return carried


def test_meter_usage_that_is_not_believed_ends_serving(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed
) -> None:
    """Serving ends, and everything that was reserved counts."""
    pack(folder, "--offline")
    wrong = stub_engine.event("word", reason="stop", usage={"prompt_tokens": 0}, route=CHAT)
    stub.say = lambda _: iter([wrong, b"data: [DONE]\n\n"])
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = offline(folder, tpm, stub)
        carried.ask(courier.HEARTBEAT, NONCE)
        with Client(carried.port) as client:
            answer = client.chat(stream=True)
            with pytest.raises(http.client.IncompleteRead) as cut:
                answer.read()
            assert b'"meter.usage: the engine' in cut.value.partial
        assert carried.machine.over.wait(600)
        (ended,) = carried.of(courier.ENDED)
        assert ended.data == b"usage"
        carried.keep_receipts()
        usage = carried.machine.usage
        assert (usage.tokens_out, usage.requests) == (3, 1)
        assert usage.tokens_in > 4096
    assert count(folder) == 0


def test_watch_clock_ends_what_nobody_renews(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    pack(folder, "--offline")
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = offline(folder, tpm, stub)
        with Client(carried.port) as client:
            assert client.chat().document["usage"]["completion_tokens"] == 3
            pass_an_hour(folder, tpm)
            assert carried.machine.over.wait(600)
            assert client.is_closed()
        (ended,) = carried.of(courier.ENDED)
        assert ended.data == b"deadline"


def test_watch_clock_goes_on_while_the_tpm_does_not_answer(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    """Whoever owns the TPM can stop it, and what was paid already could be served for longer."""
    pack(folder, "--offline")
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = offline(folder, tpm, stub)
        with Client(carried.port) as client:
            assert client.chat().document["usage"]["completion_tokens"] == 3
            carried.ask(courier.LICENCE, reissued(folder, clock=tpm.clock().milliseconds + 2000))
            with power.stopped():
                assert client.is_closed()
                assert carried.machine.reason == "deadline"
        assert carried.machine.over.wait(600)
        assert [line.data for line in carried.of(courier.ENDED)] == [b"deadline"]


def reissued(folder: Path, machine: bytes | None = None, **changes: int) -> bytes:
    """Return the issued licence with other bounds, or for another machine, signed again."""
    given = licence.parse((folder / "issued/licence").read_bytes())
    kept = custody.parse((folder / "bot.keys").read_bytes())
    bounds = {name: getattr(given.bounds, name) for name in BOUNDS} | changes
    return licence.emit(
        licence.issue(
            kept.key, lease=given.lease, terms=given.terms, machine=machine or given.machine,
            image=None, firmware={index: bytes(32) for index in licence.FIRMWARE_PCRS},
            bounds=licence.Bounds(**bounds),
        )
    )  # fmt: skip


class Waits(threading.Event):
    """An event that does not wait, and keeps for how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return False


def test_watch_clock_is_read_when_the_licence_is_due(
    folder: Path, power: BorrowersTpm, stub: StubEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(folder, "--offline")
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = offline(folder, tpm, stub)
        given = licence.parse((folder / "issued/licence").read_bytes())
        second = Opened(carried.machine._boot, given, tpm.meter())
        waits, left = Waits(), iter((5.0, 0.25, 0.0))
        monkeypatch.setattr(second, "_over", waits)
        monkeypatch.setattr(second, "_seconds_left", lambda: next(left))
        second._watch(lambda _: None)
        assert waits.seconds == [WATCH_S, WATCH_S, 0.25]
        assert [line.data for line in carried.of(courier.ENDED)] == [b"deadline"]


def pass_an_hour(folder: Path, tpm: LeaseTpm) -> None:
    """Set the TPM's clock forward, as its owner can."""
    end = licence.parse((folder / "issued/licence").read_bytes()).bounds.clock
    tpm._ask("set its clock", lambda esapi: esapi.clock_set(end))


def test_an_answer_that_the_end_cuts_off_is_in_the_last_receipt(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed
) -> None:
    """Whoever ends a boot in the middle of answers would otherwise have them for nothing."""
    pack(folder, "--offline")
    waits = threading.Event()

    def endless(_: dict[str, Any]) -> Iterator[bytes]:
        yield stub_engine.event("word", route=CHAT)
        assert waits.wait(600)

    stub.say = endless
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = offline(folder, tpm, stub)
        carried.ask(courier.HEARTBEAT, NONCE)
        with Client(carried.port) as client:
            assert b"word" in client.chat(stream=True).readline()
            carried.ask(courier.STOP)
            waits.set()
        carried.keep_receipts()
        usage = receipts.parse_heartbeat(
            receipts.parse(carried.of(courier.RECEIPT)[-1].data).body
        ).usage
        assert (usage.requests, usage.tokens_out) == (1, 3)
        assert usage.tokens_in > 4096
    printed()
    assert count(folder) == 0
    assert ", 3 out, 0 refused, of 1 request\n" in printed()[0]


def test_an_engine_that_is_gone_ends_serving(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    pack(folder, "--offline")
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = offline(folder, tpm, stub)
        stub.alive = False
        assert carried.machine.over.wait(600)
        assert [line.data for line in carried.of(courier.ENDED)] == [b"engine"]
        # Nothing is signed or opened after the end.
        assert carried.ask(courier.HEARTBEAT, NONCE).data == b"the machine has ended"


def test_a_machine_that_is_ended_while_it_loads_serves_nothing(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    pack(folder, "--offline")
    stub.loads = True
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = Courier(folder, tpm, stub)
        given = carried.enrol_and_issue("--offline")
        opening = threading.Thread(target=carried.ask, args=(courier.LICENCE, licence.emit(given)))
        opening.start()
        assert stub.loading.wait(600)
        carried.machine.end("asked")
        opening.join()
        assert [line.data for line in carried.of(courier.ENDED)] == [b"asked"]
        assert carried.of(courier.SERVING) == []
        assert list(carried.memory.iterdir()) == []
        # The TPM shows it too: it opens and signs nothing more in this boot.
        values = opened.read_pcrs((licence.STOPPED_PCR,))
        assert values[licence.STOPPED_PCR] == replay([b"stopped asked\n"])


def test_a_machine_that_loads_hears_its_courier_and_watches_the_clock(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    """The licence was opened for a short time, and the model takes longer than that to load."""
    pack(folder, "--offline")
    stub.loads = True
    loaders: list[threading.Thread] = []

    def in_a_thread(load: Callable[[], None]) -> None:
        loaders.append(threading.Thread(target=load))
        loaders[-1].start()

    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = Courier(folder, tpm, stub, loading=in_a_thread)
        given = carried.enrol_and_issue("--offline")
        # The machine answers at once, and not when the model is loaded.
        assert carried.ask(courier.LICENCE, licence.emit(given)).kind == "nothing"
        assert stub.loading.wait(600)
        assert carried.of(courier.STATE)[0].number["requests"] == 0
        assert carried.ask(courier.HEARTBEAT, NONCE).kind == courier.RECEIPT
        # The licence is renewed, as it would be while serving; the lease is not opened a second
        # time.
        assert carried.ask(courier.LICENCE, licence.emit(given)).kind == "nothing"
        assert len(loaders) == 1
        pass_an_hour(folder, tpm)
        assert carried.machine.over.wait(600)
        loaders[0].join()
        assert [line.data for line in carried.of(courier.ENDED)] == [b"deadline"]
        assert carried.of(courier.SERVING, courier.REFUSED) == []
        assert list(carried.memory.iterdir()) == []


def test_whatever_a_courier_sends_opens_nothing(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    """Lines of every kind, right and wrong, in any order: the machine accepts none."""
    pack(folder)
    chance = random.Random(3)  # noqa: S311 - can be repeated
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = Courier(folder, tpm, stub)
        carried.enrol_and_issue()
        right = {
            courier.BLOB: (folder / "issued/blob").read_bytes(),
            courier.LICENCE: (folder / "issued/licence").read_bytes(),
        }
        kinds = sorted(set(courier.ASKS) - {courier.STOP})
        for _ in range(200):
            kind = chance.choice(kinds)
            data = chance.choice([b"", NONCE, chance.randbytes(40), right.get(kind, NONCE)])
            numbers = (("seq", chance.randrange(5)),) if kind == courier.RESUME else ()
            line = courier.emit(Message(kind=kind, data=data, numbers=numbers))
            carried.machine.handle(chance.choice([line, line, line[chance.randrange(9) :]]))
        assert carried.of(courier.SERVING, courier.ENDED) == []
        assert not carried.machine.over.is_set()
        carried.ask(courier.STOP)
        # The requested receipts nevertheless form a chain.
        carried.keep_receipts()
        signed = [receipts.parse(line.data) for line in carried.of(courier.RECEIPT)]
        for before, after in itertools.pairwise(signed):
            heartbeat = receipts.parse_heartbeat(after.body)
            assert heartbeat.previous == receipts.digest(before).hex
        assert len(signed) > 10


def test_bundle_files_that_are_refused_end_the_boot(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    pack(folder, "--offline")
    path = folder / "bot/data/1"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = Courier(folder, tpm, stub)
        given = carried.enrol_and_issue("--offline")
        carried.ask(courier.LICENCE, licence.emit(given))
        refused, ended = carried.of(courier.REFUSED, courier.ENDED)
        assert refused.data.startswith(b"bundle.chunks: ")
        assert (ended.kind, ended.data) == (courier.ENDED, b"refused")
        assert list(carried.memory.iterdir()) == []
        assert stub.files == {}


def test_order_answer_to_something_else_changes_nothing(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    pack(folder)
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = Courier(folder, tpm, stub)
        given = carried.enrol_and_issue()
        epoch = given.bounds.epoch
        carried.ask(courier.HEARTBEAT, NONCE)
        stale = carried.ordered(orders.GRANT, epoch=epoch)
        carried.ask(courier.HEARTBEAT, NONCE)
        for order, check in (
            (stale, b"order.answer"),
            (carried.ordered(orders.REVOKE, epoch=epoch + 1), b"order.epoch"),
            (carried.ordered(orders.REVOKE, epoch=epoch, boot="0" * 64), b"order.answer"),
            (carried.ordered(orders.GRANT, epoch=epoch, half=b""), b"order.answer"),
        ):
            refused = carried.ask(courier.ORDER, order)
            assert (refused.kind, refused.data[: len(check)]) == (courier.REFUSED, check)
        assert not carried.machine.over.is_set()
        assert carried.grant(epoch).kind == courier.SERVING
        carried.ask(courier.STOP)
        assert carried.of(courier.ENDED)[0].data == b"asked"


def test_a_licence_renews_what_runs_only_where_it_holds(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    pack(folder, "--offline")
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = offline(folder, tpm, stub)
        given = licence.parse((folder / "issued/licence").read_bytes())

        for refused, check in (
            (reissued(folder, epoch=given.bounds.epoch + 1), b"order.epoch"),
            (reissued(folder, resets=0), b"licence.tpm"),
            (reissued(folder, machine=b"\x00\x0b" + bytes(32)), b"licence.tpm"),
            (licence.emit(given).replace(b"\nbudget ", b"\nbudget 9"), b"licence.tpm"),
        ):
            refusal = carried.ask(courier.LICENCE, refused)
            assert (refusal.kind, refusal.data[: len(check)]) == (courier.REFUSED, check)
        # The budget shrinks to what is paid already: the next request is not served, and the
        # machine continues.
        carried.ask(courier.LICENCE, reissued(folder, budget=given.bounds.budget - 10))
        budgets = [line.number["budget"] for line in carried.of(courier.STATE)]
        assert given.bounds.budget - 10 in budgets
        with Client(carried.port) as client:
            answer = client.chat()
            assert (answer.status, answer.document["error"]["code"]) == (402, "budget")
            carried.ask(courier.LICENCE, reissued(folder, budget=given.bounds.budget + 10))
            assert client.chat().status == 200
        carried.ask(courier.STOP)


BOUNDS = ("budget", "epoch", "clock", "resets", "restarts")


def test_serve_channel_of_another_connection_with_the_same_key(
    folder: Path, power: BorrowersTpm, stub: StubEngine
) -> None:
    """A relay that stole the machine's TLS key has an exporter value of its own."""
    pack(folder, "--offline")
    with power.on() as opened, LeaseTpm(opened) as tpm:
        carried = offline(folder, tpm, stub)
        with Client(carried.port) as client, Client(carried.port) as other:
            appraised(client, folder)
            channel, shown = other.evidence()
            here = client.channel(channel.nonce)
        policy = with_root(
            built_in("local"), (folder / "platform.pem").read_bytes(), "platform.pem"
        )
        with pytest.raises(RefusedError, match=r"^serve\.channel"):
            judging.appraise(
                shown, here, policy, lease=carried.terms.lease,
                certified=certified(folder), at=datetime.now(UTC),
            )  # fmt: skip
        carried.ask(courier.STOP)
