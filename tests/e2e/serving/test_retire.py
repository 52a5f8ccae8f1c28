"""A cloud's machine that is gone: its receipts go to the broker, then its files out of the way.

The broker is a process, and the receipts are those of a machine on a real software TPM.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aicert.lease import courier, receipts
from enclave_runner.serving.lease_tpm import LeaseTpm
from rules.project import config
from rules.project.leases import Lease
from rules.serving import lease_state, serve
from rules.serving.broker_client import SilentError
from rules.serving.lease_state import LeaseFolder
from tests.e2e.lease import broker_process
from tests.e2e.lease.broker_process import Desk
from tests.e2e.lease.lease_tpm import BorrowersTpm
from tests.e2e.lease.test_broker import beaten, enrolled, granted, packed, resumed
from tests.e2e.serving import test_serving_machine
from tests.e2e.serving.stub_engine import StubEngine
from tests.e2e.serving.test_serve import Watched, free_port
from tests.e2e.serving.test_serving_machine import Courier
from tests.unit.signing_keys import Printed

folder = test_serving_machine.folder
stub = test_serving_machine.stub
PROJECT = """
[machines.cloud]
driver = "azure"
region = "westeurope"
size = "Standard_D4s_v5"
image = "serve"
time-limit = "12 h"
clients = ["127.0.0.0/8"]

[leases.bot]
model = "path:bot"
machine = "cloud"
broker = "https://127.0.0.1:%d"
broker-root = "tls.pem"
"""


def lease_at(folder: Path, port: int) -> Lease:
    (folder / config.FILE).write_text(PROJECT % port)
    return config.parse(folder, config.read(folder), may_be_empty=True).lease("bot")


@contextmanager
def ended(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed
) -> Iterator[tuple[Desk, LeaseFolder, list[bytes]]]:
    """Yield the broker, and what a machine leaves that ended while the broker was silent. Its last
    receipts are not handed in: one for the meter, and one for the end.
    """
    broker_process.write_tls(folder)
    packed(folder)
    token = granted(folder, printed)
    (folder / "token").write_text(token)
    with (
        broker_process.running(folder, token) as desk,
        lease_state.opened(folder, "bot") as kept,
    ):
        with power.on() as opened, LeaseTpm(opened) as tpm:
            carried = Courier(folder, tpm, stub)
            blob = enrolled(carried, desk)
            assert beaten(carried, desk, resumed(carried, desk)).kind == courier.SERVING
            desk.post("/v1/end")
            before = len(carried.of(courier.RECEIPT))
            assert beaten(carried, desk).data == b"stop"
        left = [line.data for line in carried.of(courier.RECEIPT)[before + 1 :]]
        assert len(left) == 2
        kept.token(folder / "token")
        kept.enrolled(carried.of(courier.ENROLMENT)[0].data, blob)
        for receipt in left:
            kept.keep_receipt(receipt, is_for_a_broker=True)
        yield desk, kept, left


def accepted(desk: Desk) -> int:
    """Return the number of the last receipt that the broker has accepted."""
    seq: int = json.loads(desk.send("GET", "/v1/state")[2])["seq"]
    return seq


def screen() -> Watched:
    return Watched(lambda _: None)


def test_what_the_last_machine_signed_is_handed_in_and_put_away(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed
) -> None:
    with ended(folder, power, stub, printed) as (desk, kept, left):
        last = receipts.parse_heartbeat(receipts.parse(left[0]).body).seq
        assert accepted(desk) == last - 1
        # Nothing is put away while the broker is silent.
        with pytest.raises(SilentError):
            serve._retire(folder, lease_at(folder, free_port()), kept, screen())
        assert (kept.unsent, kept.enrolment is None) == (left, False)
        serve._retire(folder, lease_at(folder, desk.port), kept, screen())
        assert accepted(desk) == last
        place = kept.folder / lease_state.EARLIER / "1"
        assert sorted(path.name for path in place.iterdir()) == [
            lease_state.BLOB, lease_state.ENROLMENT, lease_state.RECEIPTS, lease_state.TOKEN,
        ]  # fmt: skip
        assert (kept.unsent, kept.receipts, kept.enrolment, kept.blob) == ([], [], None, None)
        # There is nothing left to retire.
        serve._retire(folder, lease_at(folder, desk.port), kept, screen())
        assert not (kept.folder / lease_state.EARLIER / "2").exists()


def test_receipts_after_one_that_the_broker_refuses_are_kept_in_order(
    folder: Path, power: BorrowersTpm, stub: StubEngine, printed: Printed
) -> None:
    with ended(folder, power, stub, printed) as (desk, kept, left):
        wrong = left[0].replace(b"attest", b"attset")
        lines = [left[0], wrong, left[1]]
        (kept.folder / lease_state.UNSENT).write_bytes(b"".join(line + b"\n" for line in lines))
        shown = screen()
        serve._retire(folder, lease_at(folder, desk.port), kept, shown)
        assert accepted(desk) == receipts.parse_heartbeat(receipts.parse(left[0]).body).seq
        (note,) = shown.notes
        assert note.startswith("the broker refused a receipt of the last machine: the broker says")
        place = kept.folder / lease_state.EARLIER / "1"
        assert (place / lease_state.UNSENT).read_bytes().split(b"\n") == [wrong, left[1], b""]
