"""However a machine dies, everything that it served was paid, and its receipts still add up."""

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.lease import courier, enrolment, licence, receipts, terms
from aicert.lease.courier import Message
from enclave_runner.serving.lease_tpm import LeaseTpm
from rules.machines.ca import Ca
from tests.e2e.lease import lease_machine
from tests.e2e.lease.lease_tpm import BorrowersTpm
from tests.e2e.lease.test_lease_story import NONCE, issue, judged, pack
from tests.e2e.serving import test_serving_engine, test_serving_machine, test_serving_process
from tests.e2e.serving.serving_client import CHAT, MESSAGES, Client
from tests.unit.signing_keys import Printed

ROOT = Path(__file__).resolve().parents[3]
TICK = 100
METER = licence.METER_INDEX

folder = test_serving_machine.folder


@dataclass
class Process:
    """The process of one boot, until it is killed."""

    process: "subprocess.Popen[bytes]"
    receipts: list[bytes] = field(default_factory=list)

    def ask(self, kind: str, data: bytes, until: str, **numbers: int) -> Message:
        """Send a message. Returns the machine's next message of the kind `until`. Receipts before
        it are kept, states are ignored, and any other message is a failure.
        """
        self.send(kind, data, **numbers)
        return self.wait_for(until)

    def send(self, kind: str, data: bytes, **numbers: int) -> None:
        assert self.process.stdin is not None
        message = Message(kind=kind, data=data, numbers=tuple(numbers.items()))
        self.process.stdin.write(courier.emit(message))
        self.process.stdin.flush()

    def wait_for(self, kind: str) -> Message:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = courier.parse(line, courier.TELLS)
            if message.kind == courier.RECEIPT:
                self.receipts.append(message.data)
            if message.kind == kind:
                return message
            assert message.kind == courier.STATE, message
        raise AssertionError(f"it ended before it told {kind}")


Command = Callable[[Path, Path, str], list[str]]


def with_a_stub(folder: Path, room: Path, tcti: str) -> list[str]:
    """Return the command of a machine whose engine is a stub in the same process."""
    words = ["-m", "tests.e2e.serving.serving_program", tcti, str(folder / "bot"), str(room)]
    return [sys.executable, *words]


@contextmanager
def started(power: BorrowersTpm, folder: Path, command: Command = with_a_stub) -> Iterator[Process]:
    # Sockets need short names.
    with power.powered(), tempfile.TemporaryDirectory(prefix="aicert-", dir="/dev/shm") as room:
        words = command(folder, Path(room), power.tcti)
        with subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            try:
                machine = Process(process)
                machine.wait_for(courier.READY)
                yield machine
            finally:
                process.kill()


def opened(machine: Process, folder: Path, lines: list[bytes]) -> int:
    """Open the lease and continue its receipts. Returns the port."""
    if lines:
        last = receipts.parse(lines[-1])
        seq = receipts.parse_heartbeat(last.body).seq
        head = bytes.fromhex(receipts.digest(last).hex)
        machine.send(courier.RESUME, head, seq=seq)
    machine.ask(courier.HEARTBEAT, NONCE, courier.RECEIPT)
    machine.send(courier.BLOB, (folder / "issued/blob").read_bytes())
    data = (folder / "issued/licence").read_bytes()
    return machine.ask(courier.LICENCE, data, courier.SERVING).number["port"]


def asked(client: Client) -> int:
    """Ask for a whole answer. Returns its tokens."""
    answer = client.ask(CHAT, {"messages": MESSAGES, "max_tokens": 3})
    tokens: int = answer.document["usage"]["total_tokens"]
    return tokens


@pytest.mark.parametrize("rounds", [12, pytest.param(50, marks=pytest.mark.kills)])
def test_what_was_served_was_paid_however_it_dies(
    folder: Path, power: BorrowersTpm, printed: Printed, rounds: int
) -> None:
    pack(folder, "--offline", "--tick-tokens", str(TICK))
    chance = random.Random(rounds)  # noqa: S311 - where it dies needs no secrecy
    boots = killed(folder, power, rounds, chance)
    printed()
    words = ["receipts", str(folder / "receipts.jsonl"), "--enrolment"]
    assert judged(folder, *words, str(folder / "enrolment.json")) == 0
    assert f"\nreceipts  {boots} in a row, of {boots} boots\n" in printed()[0]


@pytest.mark.kills
def test_what_was_served_was_paid_however_the_engine_itself_dies(
    tmp_path: Path, power: BorrowersTpm, ca: Ca
) -> None:
    (tmp_path / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    test_serving_process.lay_out(tmp_path)
    pack(tmp_path, "--offline", "--tick-tokens", str(TICK))
    chance = random.Random(3)  # noqa: S311 - where it dies needs no secrecy
    killed(tmp_path, power, 3, chance, test_serving_process.command)
    # No engine outlives its machine.
    assert test_serving_engine.left_of(tmp_path) == []


def killed(
    folder: Path,
    power: BorrowersTpm,
    rounds: int,
    chance: random.Random,
    command: Command = with_a_stub,
) -> int:
    """Kill a machine `rounds` times, and check that everything it served was paid. Returns how many
    boots served.
    """
    agreed = terms.parse((folder / "bot/terms.toml").read_bytes())
    with power.on() as tpm, LeaseTpm(tpm) as lease:
        shown = lease.enrol(agreed, NONCE)
        first = lease.meter()
        enrolled(folder, enrolment.emit(shown), rounds)
    lines: list[bytes] = []
    served = boots = 0
    for _ in range(rounds):
        with started(power, folder, command) as machine:
            if not chance.randrange(4):
                # Kill it while it opens the lease, or loads the model.
                data = (folder / "issued/licence").read_bytes()
                machine.send(courier.BLOB, (folder / "issued/blob").read_bytes())
                machine.send(courier.LICENCE, data)
                if chance.randrange(2):
                    machine.wait_for(courier.SERVING)
                machine.process.kill()
                continue
            boots += 1
            port = opened(machine, folder, lines)
            lines += machine.receipts
            with Client(port) as client:
                # Serve at least once. libtpms calls a clock safe that it has not saved yet, and a
                # tick saves both. If a boot took seconds and its clock was lost, it would look like
                # a boot whose clock went back.
                for _ in range(1 + chance.randrange(2)):
                    served += asked(client)
            with Client(port) as client:
                # Kill it before an answer or in the middle of one, after the client has read some
                # of its bytes.
                client.tls.sendall(streamed())
                for _ in range(chance.randrange(4)):
                    client.tls.recv(64)
                machine.process.kill()
    with power.on() as tpm:
        paid = TICK * (lease_machine.count(tpm, METER) - first)
    assert 0 < served <= paid
    (folder / "receipts.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return boots


def enrolled(folder: Path, shown: bytes, rounds: int = 1) -> None:
    (folder / "enrolment.json").write_bytes(shown)
    more = ["--offline", "--budget", "10M", "--boots", str(rounds + 2)]
    assert issue(folder, *more) == 0


def streamed() -> bytes:
    body = b'{"messages":[{"role":"user","content":"hello"}],"max_tokens":3,"stream":true}'
    head = f"POST {CHAT} HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_tpm_that_is_gone_ends_serving(folder: Path, power: BorrowersTpm) -> None:
    """Nothing more is served once nothing more can be counted."""
    pack(folder, "--offline")
    agreed = terms.parse((folder / "bot/terms.toml").read_bytes())
    with power.on() as tpm, LeaseTpm(tpm) as lease:
        enrolled(folder, enrolment.emit(lease.enrol(agreed, NONCE)))
    with started(power, folder) as machine:
        port = opened(machine, folder, [])
        with Client(port) as client:
            assert asked(client) == 10
            power.cut()
            ended = machine.wait_for(courier.ENDED)
            assert ended.data.startswith(b"tpm: ")
            assert client.is_closed()
