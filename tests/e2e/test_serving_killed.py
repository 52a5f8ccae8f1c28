"""However a machine dies, what was served was paid, and its receipts go on adding up."""

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aicert.lease import courier, enrolment, licence, receipts, terms
from aicert.lease.courier import Message
from enclave_runner.serving.lease_tpm import LeaseTpm
from tests.e2e import lease_machine, test_serving_machine
from tests.e2e.lease_tpm import BorrowersTpm
from tests.e2e.serving_client import CHAT, MESSAGES, Client
from tests.e2e.test_lease_story import NONCE, issue, judged, pack
from tests.unit.signing_keys import Printed

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 12
TICK = 100
METER = licence.METER_INDEX

folder = test_serving_machine.folder


@dataclass
class Process:
    """One boot, until it is killed."""

    process: "subprocess.Popen[bytes]"
    receipts: list[bytes] = field(default_factory=list)

    def ask(self, kind: str, data: bytes, until: str, **numbers: int) -> Message:
        """What it tells of that kind; other lines but receipts say nothing here."""
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


@contextmanager
def started(power: BorrowersTpm, folder: Path) -> Iterator[Process]:
    # Names of sockets are short.
    with power.powered(), tempfile.TemporaryDirectory(prefix="aicert-") as room:
        words = ["-m", "tests.e2e.serving_program", power.tcti, str(folder / "bot"), room]
        with subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            try:
                machine = Process(process)
                machine.wait_for(courier.READY)
                yield machine
            finally:
                process.kill()


def opened(machine: Process, folder: Path, lines: list[bytes]) -> int:
    """Open the lease, and continue its receipts; the port."""
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
    """The tokens of a whole answer."""
    answer = client.ask(CHAT, {"messages": MESSAGES, "max_tokens": 3})
    tokens: int = answer.document["usage"]["total_tokens"]
    return tokens


def test_what_was_served_was_paid_however_it_dies(
    folder: Path, power: BorrowersTpm, printed: Printed
) -> None:
    pack(folder, "--offline", "--tick-tokens", str(TICK))
    agreed = terms.parse((folder / "bot/terms.toml").read_bytes())
    with power.on() as tpm, LeaseTpm(tpm) as lease:
        shown = lease.enrol(agreed, NONCE)
        first = lease.meter()
        enrolled(folder, enrolment.emit(shown))
    chance = random.Random(7)  # noqa: S311 - where it dies needs no secrecy, and can be repeated
    lines: list[bytes] = []
    served = 0
    for _ in range(ROUNDS):
        with started(power, folder) as machine:
            port = opened(machine, folder, lines)
            lines += machine.receipts
            with Client(port) as client:
                # At least once: libtpms calls its clock safe that it has not written down yet, and
                # a tick writes both. A boot that took seconds, and whose clock was lost, would be
                # one whose clock went back.
                for _ in range(1 + chance.randrange(2)):
                    served += asked(client)
            with Client(port) as client:
                # In the middle of an answer, or before it: the client has read so many bytes.
                client.tls.sendall(streamed())
                for _ in range(chance.randrange(4)):
                    client.tls.recv(64)
                machine.process.kill()
    with power.on() as tpm:
        paid = TICK * (lease_machine.count(tpm, METER) - first)
    assert 0 < served <= paid
    (folder / "receipts.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    printed()
    words = ["receipts", str(folder / "receipts.jsonl"), "--enrolment"]
    assert judged(folder, *words, str(folder / "enrolment.json")) == 0
    assert f"\nreceipts  {ROUNDS} in a row, of {ROUNDS} boots\n" in printed()[0]


def enrolled(folder: Path, shown: bytes) -> None:
    (folder / "enrolment.json").write_bytes(shown)
    more = ["--offline", "--budget", "10M", "--boots", str(ROUNDS + 2)]
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
