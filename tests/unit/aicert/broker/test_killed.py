"""Row 35: wherever a broker is killed, its ledger stays whole, and the next broker continues it."""

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.broker import generation, machine_state
from aicert.lease import enrolment, receipts
from aicert.lease.orders import GRANT
from aicert.leasing import accounts, enrolments
from tests.adversarial import ca_forge, enrolment_forge
from tests.unit.aicert.broker.forged import METER, TERMS, Bench, Machine

ROOT = Path(__file__).resolve().parents[4]


def killed(bench: Bench, point: int, what: str, token: str, data: bytes) -> bytes:
    """Return the answer of a broker process that dies at this point; empty if it died before."""
    return run(bench, point, what, token, data).stdout


def run(
    bench: Bench, point: int, what: str, token: str, data: bytes
) -> "subprocess.CompletedProcess[bytes]":
    words = ["-m", "tests.unit.aicert.broker.killed", str(bench.ledger), str(bench.now)]
    done = subprocess.run(
        [sys.executable, *words, str(point), what, token], cwd=ROOT, input=data,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == (0 if point == 4 else -signal.SIGKILL), done.stderr
    return done


def whole(bench: Bench) -> None:
    """Check that SQLite finds no damage, and that the state matches the kept receipts."""
    with sqlite3.connect(bench.ledger) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    ledger.close()
    with bench.store.transaction() as rows:
        (grant,) = rows.grants(TERMS.lease)
        lease = rows.lease(TERMS.lease)
        kept = [receipts.parse(one.data) for one in rows.receipts(grant.number)]
    assert lease is not None
    with generation.held(bench.bundle) as held:
        held.check(lease.generation)
    if grant.enrolment is None:
        assert kept == []
        return
    machine = enrolments.appraise(
        enrolment.parse(grant.enrolment), TERMS, bench.policy, at=ca_forge.AT
    )
    assert grant.seen is not None
    assert (
        machine_state.parse(grant.seen, TERMS).ledger
        == accounts.account(TERMS, machine, kept).ledger
    )


@pytest.mark.parametrize("point", [1, 2, 3, 4])
def test_a_broker_that_is_killed_while_it_enrols(bench: Bench, point: int) -> None:
    token = bench.grant()
    nonce = bench.broker.challenge(token)
    data = enrolment.emit(enrolment_forge.Scene(nonce=nonce, bound_nonce=nonce).signed())
    answer = killed(bench, point, "enrol", token, data)
    whole(bench)
    # The courier asks again: one machine is enrolled, with one blob.
    again = bench.broker.enrol(token, data)
    assert answer in (b"", again)
    assert bench.broker.enrol(token, data) == again
    assert Machine(bench, token).beat().kind == GRANT
    whole(bench)


@pytest.mark.parametrize("point", [1, 2, 3, 4])
def test_a_broker_that_is_killed_while_it_grants(bench: Bench, point: int) -> None:
    machine = bench.machine()
    machine.beat()
    machine.serve(1500)
    data = machine.sign(machine.ask())
    answer = killed(bench, point, "receipt", machine.token, data)
    whole(bench)
    again = bench.broker.receipt(machine.token, data)
    assert answer in (b"", again)
    order = machine.accepted(again, data)
    # The grant counts once: the budget is that of one receipt, and no boot ended.
    assert machine.bounds(order).budget == METER + 100
    assert bench.broker.state(machine.token)["charged"] == 0
    assert machine.beat().kind == GRANT
    whole(bench)


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.kills)])
def test_a_broker_that_is_killed_at_any_line(bench: Bench, kills: int) -> None:
    """One lease, whose broker dies again and again at randomly chosen lines."""
    chance = random.Random(kills)  # noqa: S311 - can be repeated
    token = bench.grant(budget=1_000_000)
    nonce = bench.broker.challenge(token)
    data = enrolment.emit(enrolment_forge.Scene(nonce=nonce, bound_nonce=nonce).signed())
    killed(bench, 100 + chance.randrange(LEAST), "enrol", token, data)
    whole(bench)
    bench.broker.enrol(token, data)
    machine = Machine(bench, token)
    machine.beat()
    machine.serve(500)
    data = machine.sign(machine.ask())
    done = run(bench, 4, "receipt", token, data)
    lines = int(done.stderr)
    assert lines > LEAST
    machine.accepted(done.stdout, data)
    for _ in range(kills):
        machine.serve(500)
        data = machine.sign(machine.ask())
        done = run(bench, 100 + chance.randrange(lines), "receipt", token, data)
        whole(bench)
        again = bench.broker.receipt(token, data)
        assert done.stdout in (b"", again)
        order = machine.accepted(again, data)
        # The machine gets exactly the grant, and no boot is charged for a death.
        assert machine.bounds(order).budget == METER + 1000
        assert bench.broker.state(token)["charged"] == 0


# A number of lines that every enrolment and every receipt exceeds.
LEAST = 400
