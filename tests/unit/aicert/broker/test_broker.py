"""What a broker grants and refuses, with machines whose keys the tests hold (lease.md)."""

import random
from pathlib import Path
from typing import Any

import pytest

from aicert.broker import custodian
from aicert.broker.errors import TokenError, WaitError
from aicert.errors import EvidenceError, ToolError
from aicert.lease import blob, enrolment, orders, receipts, tpm_policy
from aicert.lease.checks import RefusedError
from aicert.lease.orders import GRANT, REVOKE, STOP
from aicert.lease.receipts import Usage
from aicert.leasing import accounts, enrolments, packing
from tests.adversarial import ca_forge, enrolment_forge, tpm_forge
from tests.unit.aicert.broker.forged import (
    AHEAD,
    EPOCH,
    HEARTBEAT,
    METER,
    TERMS,
    Bench,
    Machine,
    signer,
)
from tests.unit.aicert.lease import forge
from tests.vectors.leases import CUSTODIAN, STRANGER


def refused(check: str) -> Any:
    return pytest.raises(RefusedError, match=rf"^{check}: ".replace(".", r"\."))


def test_a_machine_serves_renews_and_is_revoked(bench: Bench) -> None:
    machine = bench.machine()
    first = machine.beat()
    assert first.kind == GRANT
    bounds = machine.bounds(first)
    assert (bounds.budget, bounds.epoch, bounds.resets, bounds.restarts) == (
        METER + 100, EPOCH, 7, 0,
    )  # fmt: skip
    # However long the grant lasts, a licence ends three heartbeats after the receipt.
    assert bounds.clock == machine.clock + 1000 * AHEAD
    machine.serve(1500)
    bench.now += HEARTBEAT
    machine.clock += 1000 * HEARTBEAT
    second = machine.beat()
    assert (second.kind, second.half, second.seq) == (GRANT, b"", 2)
    assert second.generation > first.generation
    assert machine.bounds(second).clock == machine.clock + 1000 * AHEAD
    custodian.revoke(bench.store, bench.bundle, now=bench.now)
    last = machine.beat()
    assert (last.kind, last.licence) == (REVOKE, b"")
    machine.obey(last)
    with refused("ledger.state"):
        machine.ask()
    state = bench.broker.state(machine.token)
    assert (state["tokensOut"], state["revoked"]) == (1500, True)


def test_receipts_that_were_kept_add_up_for_anybody(bench: Bench) -> None:
    """The ledger's own account equals that of `aicert lease receipts`."""
    machine = bench.machine()
    machine.beat()
    machine.serve(700)
    machine.beat()
    custodian.revoke(bench.store, bench.bundle, now=bench.now)
    machine.obey(machine.beat())
    with bench.store.transaction() as rows:
        (grant,) = rows.grants(TERMS.lease)
        given = [receipts.parse(kept.data) for kept in rows.receipts(grant.number)]
    assert grant.enrolment is not None
    machine_seen = enrolments.appraise(
        enrolment.parse(grant.enrolment), TERMS, bench.policy, at=ca_forge.AT
    )
    account = accounts.account(TERMS, machine_seen, given)
    assert (account.total.tokens_out, account.count) == (700, 4)
    assert account.ending is not None
    assert account.ending.order.kind == REVOKE


# --- Enrolment.


def test_a_token_enrols_one_machine_once(bench: Bench) -> None:
    token = bench.grant()
    data = bench.enrol(token)
    given = bench.broker.enrol(token, data)
    # The same request gets the same answer, since an answer may be lost.
    assert bench.broker.enrol(token, data) == given
    blob.parse(given)
    with pytest.raises(TokenError, match="has enrolled a machine already"):
        bench.broker.challenge(token)
    other = enrolment_forge.Scene(nonce=b"\x01" * 32, bound_nonce=b"\x01" * 32).signed()
    with pytest.raises(TokenError, match="has enrolled a machine already"):
        bench.broker.enrol(token, enrolment.emit(other))


def test_tokens_that_nobody_was_given(bench: Bench) -> None:
    token = bench.grant()
    for wrong in ("", "0" * 64, token[:-1], token.upper() + "0", "ä" * 64, token + "0"):
        with pytest.raises(TokenError, match="there is no grant with this token"):
            bench.broker.challenge(wrong)
        with pytest.raises(TokenError, match="there is no grant with this token"):
            bench.broker.require_known(wrong)
    with pytest.raises(TokenError, match="has enrolled no machine yet"):
        bench.broker.nonce(token, "b0" * 32)
    with pytest.raises(TokenError, match="has enrolled no machine yet"):
        bench.broker.receipt(token, Machine(bench, token).signed(b"\x01" * 32))
    bench.broker.require_known(token)


def test_a_grant_that_ended_or_is_revoked_enrols_nobody(bench: Bench) -> None:
    token = bench.grant(seconds=60)
    bench.now += 60
    with pytest.raises(TokenError, match="the grant has ended"):
        bench.broker.challenge(token)
    bench.now -= 1
    nonce = bench.broker.challenge(token)
    custodian.revoke(bench.store, bench.bundle, now=bench.now)
    with refused("ledger.state"):
        bench.broker.challenge(token)
    scene = enrolment_forge.Scene(nonce=nonce, bound_nonce=nonce)
    with refused("ledger.state"):
        bench.broker.enrol(token, enrolment.emit(scene.signed()))


def test_enrol_nonce_of_another_time(bench: Bench) -> None:
    token = bench.grant()
    data = enrolment.emit(enrolment_forge.Scene().signed())
    with refused("enrol.nonce"):
        bench.broker.enrol(token, data)
    old = bench.broker.challenge(token)
    bench.broker.challenge(token)
    scene = enrolment_forge.Scene(nonce=old, bound_nonce=old)
    with refused("enrol.nonce"):
        bench.broker.enrol(token, enrolment.emit(scene.signed()))
    with pytest.raises(EvidenceError):
        bench.broker.enrol(token, data[:-1])


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        # Rows 30 and 31: a simulated platform, and keys that another machine could use. The tests
        # of leasing show all that `enrol.*` refuses.
        ("enrol.chain", {"chain": (enrolment_forge.ak_certificate(issuer_key=STRANGER),)}),
        ("enrol.quote", {"ak": STRANGER}),
        ("enrol.policy-ak", {"receipt_hierarchy": enrolment_forge.OWNER}),
        ("enrol.storage-key", {"storage_hierarchy": enrolment_forge.ENDORSEMENT}),
        ("enrol.image", {"values": enrolment_forge.registers(pcr4=b"\x99" * 32)}),
        ("enrol.registers", {"values": enrolment_forge.registers(pcr14=b"\x99" * 32)}),
        ("enrol.counters", {"meter": {"index": 0x0180_0012}}),
        (
            "enrol.counters",
            {"meter": {"body": tpm_forge.counter_body(
                tpm_policy.counter_name(0x0180_0010), (1 << 63) - 10)}},
        ),
    ],
)  # fmt: skip
def test_enrol_refuses(bench: Bench, check: str, changes: dict[str, Any]) -> None:
    token = bench.grant()
    with refused(check):
        bench.enrol(token, **changes)
    with pytest.raises(TokenError):
        bench.broker.nonce(token, "b0" * 32)


def test_enrol_tier_below_the_policy(tmp_path: Path) -> None:
    """A broker leases to machines that its policy names, and never to software alone by default."""
    strict = Bench(tmp_path, policy=enrolment_forge.policy(tier="vtpm"))
    with refused("enrol.tier"):
        strict.enrol(strict.grant())
    strict.close()


def test_a_policy_that_changed_its_mind_renews_nothing(bench: Bench) -> None:
    machine = bench.machine()
    machine.beat()
    bench.policy = enrolment_forge.policy(accepted=frozenset())
    bench.broker = bench.started()
    with refused("enrol.image"):
        machine.beat()


# --- Receipts (row 14), copies and restored state (rows 10, 12, 13).


@pytest.mark.parametrize(
    ("check", "how"),
    [
        ("receipt.signature", {"key": STRANGER}),
        ("receipt.form", {"kind": tpm_forge.QUOTE}),
        ("receipt.index", {"index": 0x0180_0012}),
        ("receipt.body", {"extra": bytes(32)}),
        ("receipt.boot", {"restart": 1}),
        ("ledger.successor", {"seq": 3}),
        ("ledger.successor", {"previous": "00" * 32}),
        ("ledger.successor", {"lease": "0" * 32}),
        ("ledger.meter", {"value": METER - 1}),
        ("ledger.clock", {"clock": 999}),
        ("ledger.boots", {"reset": 6}),
        ("ledger.tokens", {"usage": Usage(tokens_out=1), "half_for": ""}),
    ],
)
def test_receipts_that_are_refused(bench: Bench, check: str, how: dict[str, Any]) -> None:
    machine = bench.machine()
    nonce = machine.ask()
    with refused(check):
        bench.broker.receipt(machine.token, machine.signed(nonce, **how))
    # The ledger has not changed.
    assert machine.accepted(
        bench.broker.receipt(machine.token, data := machine.sign(nonce)), data
    ).kind == GRANT  # fmt: skip


def test_receipt_fresh_answers_the_brokers_latest_nonce(bench: Bench) -> None:
    machine = bench.machine()
    with refused("receipt.fresh"):
        bench.broker.receipt(machine.token, machine.signed(b"\x01" * 32))
    old = machine.ask()
    machine.ask()
    with refused("receipt.fresh"):
        bench.broker.receipt(machine.token, machine.signed(old))


def test_receipt_body_that_is_no_heartbeat(bench: Bench) -> None:
    machine = bench.machine()
    receipt = receipts.parse(machine.signed(machine.ask()))
    body = receipt.body.replace(b'"seq":1', b'"seq":01')
    given = forge.receipt(body, METER, key=enrolment_forge.RECEIPTS, signer=signer())
    with refused("receipt.form"):
        bench.broker.receipt(machine.token, receipts.emit(given))
    with pytest.raises(EvidenceError):
        bench.broker.receipt(machine.token, b"{}")


def test_ledger_successor_of_a_copy_that_runs(bench: Bench) -> None:
    """Row 13: two copies of one state sign the same place in the chain; the second is refused."""
    machine = bench.machine()
    machine.beat()
    copy = Machine(**machine.__dict__)
    machine.serve(1000)
    machine.beat()
    with refused("ledger.successor"):
        copy.beat()


def test_of_twins_of_memory_and_tpm_one_is_answered(bench: Bench) -> None:
    """Row 13: copies that serve in step sign with the same key, count and body.

    An order answers one of them.
    """
    machine = bench.machine()
    machine.beat()
    twin = Machine(**machine.__dict__)
    nonce = machine.ask()
    data, other = machine.sign(nonce), twin.sign(nonce, clock=1001)
    assert receipts.parse(data).body == receipts.parse(other).body
    answer = bench.broker.receipt(machine.token, data)
    assert machine.accepted(answer, data).kind == GRANT
    # The twin may keep its receipt to itself: the answer to the other machine is not an answer to
    # the twin,
    with refused("order.answer"):
        twin.accepted(answer, other)
    # and the twin's next receipt continues its own, which the ledger never accepted.
    with refused("ledger.successor"):
        twin.beat(clock=1002)
    with pytest.raises(
        RefusedError,
        match=r"^ledger\.successor: .*two copies of the machine are running, with memory and TPM",
    ):
        bench.broker.receipt(machine.token, other)
    assert machine.beat().kind == GRANT


def test_ledger_meter_of_state_that_was_put_back(bench: Bench) -> None:
    """Row 12: the meter is lower than it was."""
    machine = bench.machine()
    machine.beat()
    machine.serve(5000)
    machine.beat()
    bench.now += AHEAD
    machine.reboot()
    with refused("ledger.meter"):
        machine.beat(value=METER)


def test_ledger_clock_of_a_tpm_that_was_cleared(bench: Bench) -> None:
    """Row 10: TPM2_Clear sets the clock back."""
    machine = bench.machine()
    machine.clock = 10_000_000
    machine.beat()
    bench.now += AHEAD
    machine.reboot()
    with refused("ledger.clock"):
        machine.beat(clock=0)


# --- One live boot (row 38), and key halves for attested keys alone (row 39).


def test_ledger_boots_no_second_boot_while_the_first_may_serve(bench: Bench) -> None:
    """Row 38: A's heartbeats are dropped, and its copy B asks for a licence as a reboot."""
    machine = bench.machine()
    machine.beat()
    copy = Machine(**machine.__dict__)
    copy.reboot()
    with pytest.raises(WaitError, match=r"^ledger\.boots: .* 180 s") as wait:
        copy.ask()
    assert wait.value.seconds == AHEAD
    # A nonce that the running boot got earlier does not help the copy.
    data = copy.signed(machine.ask())
    with refused("ledger.boots"):
        bench.broker.receipt(copy.token, data)
    # B's answer is for B: no order in it names A's latest heartbeat.
    bench.now += AHEAD
    order = copy.beat()
    assert order.boot == copy.boot
    with refused("order.answer"):
        machine.accepted(orders.emit(orders.sign(CUSTODIAN, order)), data)


def test_a_boot_that_ends_without_a_word_is_charged(bench: Bench) -> None:
    """A copy may have served, unseen, all that its licence allowed."""
    machine = bench.machine(bench.grant(budget=100_000, advance=20_000))
    assert machine.bounds(machine.beat()).budget == METER + 20
    machine.serve(5000)
    assert machine.bounds(machine.beat()).budget == METER + 5 + 20
    bench.now += AHEAD
    machine.reboot()
    # 100 ticks: 5 are on the meter, and a copy may have served 20.
    assert machine.bounds(machine.beat()).budget == METER + 25
    assert bench.broker.state(machine.token)["charged"] == 20_000
    for number in range(2, 7):
        bench.now += AHEAD
        machine.reboot(f"b{number}")
        order = machine.beat()
    # The budget is used up: the boot is ended instead.
    assert order.kind == STOP
    assert bench.broker.state(machine.token)["charged"] == 95_000


def test_a_boot_that_ended_by_an_order_costs_nothing(bench: Bench) -> None:
    machine = bench.machine()
    machine.beat()
    bench.broker.end(machine.token)
    machine.serve(900)
    order = machine.beat()
    assert order.kind == STOP
    machine.obey(order)
    machine.reboot()
    after = machine.beat()
    assert (after.kind, after.epoch) == (GRANT, EPOCH + 1)
    assert machine.bounds(after).epoch == EPOCH + 1
    assert bench.broker.state(machine.token)["charged"] == 0


def test_a_half_is_sealed_to_what_a_receipt_names(bench: Bench) -> None:
    """Row 39: a boot request whose key is not attested gets no key half.

    A half that was sealed to an attested key cannot be opened with another.
    """
    machine = bench.machine()
    nonce = machine.ask()
    with refused("receipt.signature"):
        bench.broker.receipt(machine.token, machine.signed(nonce, key=STRANGER))
    data = machine.sign(nonce)
    order = orders.parse_order(orders.parse(bench.broker.receipt(machine.token, data)).order)
    heartbeat = machine.heartbeat
    assert heartbeat is not None
    other = Machine(bench, machine.token)
    with refused("order.answer"):
        orders.open_half(order.half, other.half_key, heartbeat, TERMS.digest)
    with refused("order.answer"):
        orders.open_half(
            order.half, machine.half_key, receipts.Heartbeat(
                **{name: getattr(heartbeat, name) for name in heartbeat.__slots__}
                | {"boot": "ee" * 32}
            ), TERMS.digest,
        )  # fmt: skip


def test_ledger_boots_a_half_is_given_once_a_boot(bench: Bench) -> None:
    machine = bench.machine()
    machine.beat()
    with refused("ledger.boots"):
        machine.beat(half_for=machine.half_for)


# --- Answers, and ends.


def test_the_same_receipt_gets_the_same_answer(bench: Bench) -> None:
    """An answer may be lost; a restarted broker repeats it too."""
    machine = bench.machine()
    data = machine.sign(machine.ask())
    answer = bench.broker.receipt(machine.token, data)
    bench.broker = bench.started()
    assert bench.broker.receipt(machine.token, data) == answer
    assert bench.broker.state(machine.token)["seq"] == 1


def test_a_last_receipt_counts_and_gets_nothing(bench: Bench) -> None:
    """A machine that ends by itself has no newer nonce to answer."""
    machine = bench.machine()
    machine.beat()
    machine.serve(3000)
    assert machine.heartbeat is not None
    last = machine.sign(bytes.fromhex(machine.heartbeat.nonce))
    assert bench.broker.receipt(machine.token, last) == b""
    assert bench.broker.receipt(machine.token, last) == b""
    assert bench.broker.state(machine.token)["tokensOut"] == 3000
    # A new boot cannot begin with it.
    machine.reboot()
    with refused("receipt.fresh"):
        bench.broker.receipt(machine.token, machine.signed(bytes.fromhex(machine.heartbeat.nonce)))


def test_a_grant_ends_by_the_date(bench: Bench) -> None:
    machine = bench.machine(bench.grant(seconds=100))
    bench.now += 90
    # The licence ends with the grant.
    assert machine.bounds(machine.beat()).clock == machine.clock + 10_000
    bench.now += 10
    assert machine.beat().kind == STOP


def test_a_machine_that_does_not_obey_is_told_again(bench: Bench) -> None:
    machine = bench.machine()
    machine.beat()
    custodian.revoke(bench.store, bench.bundle, now=bench.now, borrower="acme")
    assert machine.beat().kind == REVOKE
    order = machine.beat()
    assert order.kind == REVOKE
    machine.obey(order)


def test_ledger_state_kill_receipts_of_something_else(bench: Bench) -> None:
    machine = bench.machine()
    granted = machine.beat()
    with refused("ledger.state"):
        bench.broker.receipt(machine.token, machine.kill_receipt(orders.emit_order(granted)))
    bench.broker.end(machine.token)
    order = machine.beat()
    data = orders.emit_order(order)
    with refused("ledger.state"):
        # The epoch was not raised: an old licence would still open.
        bench.broker.receipt(machine.token, machine.kill_receipt(data, EPOCH))
    with refused("ledger.state"):
        bench.broker.receipt(machine.token, machine.kill_receipt(data + b" "))
    machine.obey(order)
    assert bench.broker.receipt(machine.token, machine.kill_receipt(data)) == b""


@pytest.mark.parametrize("seconds", [6, AHEAD])
def test_a_clock_that_was_set_back_enrols_and_grants_nothing(bench: Bench, seconds: int) -> None:
    machine = bench.machine()
    unused = bench.grant()
    bench.now += 10 * AHEAD
    machine.beat()
    data = machine.sign(machine.ask())
    bench.now -= seconds
    for ask in (
        machine.ask, lambda: bench.broker.challenge(unused),
        lambda: bench.broker.receipt(machine.token, data),
    ):  # fmt: skip
        with pytest.raises(ToolError, match=rf"the clock is {seconds} s behind the newest entry"):
            ask()
    bench.now += seconds
    assert machine.accepted(bench.broker.receipt(machine.token, data), data).kind == GRANT


def test_a_clock_that_goes_back_by_little_is_never_before_the_ledger(bench: Bench) -> None:
    """Otherwise it could go back by a little again and again."""
    machine = bench.machine()
    bench.now += 100
    before = bench.now
    for _ in range(3):
        machine.beat()
        bench.now -= 2
    with bench.store.transaction() as rows:
        (grant,) = rows.grants(TERMS.lease)
        assert {kept.at for kept in rows.receipts(grant.number)} == {before}
    with pytest.raises(ToolError, match="the clock is 6 s behind"):
        machine.beat()


def test_ledger_state_of_a_boot_after_its_kill_receipt(bench: Bench) -> None:
    """Its epoch is over: a machine that continues in its name did not end."""
    machine = bench.machine()
    machine.beat()
    bench.broker.end(machine.token)
    machine.obey(machine.beat())
    head = bench.broker.state(machine.token)["head"]
    with refused("ledger.state"):
        machine.beat()
    assert bench.broker.state(machine.token)["head"] == head


def test_keys_of_another_lease_give_nothing(bench: Bench) -> None:
    machine = bench.machine()
    nonce = machine.ask()
    path = packing.keys_path(bench.bundle)
    data = path.read_bytes()
    for wrong in (data.replace(TERMS.lease.encode(), b"0" * 32), b"{", data[:-1]):
        path.write_bytes(wrong)
        with pytest.raises(ToolError, match="the lease's keys cannot be used"):
            bench.broker.receipt(machine.token, machine.signed(nonce))
    assert bench.broker.state(machine.token)["seq"] == 0


def test_a_row_that_somebody_edited_is_not_guessed_at(bench: Bench) -> None:
    machine = bench.machine()
    with bench.store.transaction() as rows:
        (grant,) = rows.grants(TERMS.lease)
        assert grant.seen is not None
        rows.change(grant.number, seen=grant.seen.replace(b'"meter":10', b'"meter": 9'))
    with pytest.raises(ToolError, match="the ledger is damaged"):
        machine.ask()


def test_whatever_couriers_do_no_more_may_be_served_than_was_granted(bench: Bench) -> None:
    """Boots, copies, losses and renewals in any order.

    Each boot counts with the most that its licences let it, or a copy of it, serve.
    """
    chance = random.Random(5)  # noqa: S311 - can be repeated
    machine = bench.machine(bench.grant(budget=60_000, advance=10_000))
    might, boots = 0, 0
    while boots < 12:
        boots += 1
        start, licensed = machine.meter, machine.meter
        for _ in range(chance.randrange(1, 5)):
            order = machine.beat()
            if order.kind == STOP:
                break
            licensed = machine.bounds(order).budget
            machine.serve(1000 * chance.randrange(max(1, licensed - machine.meter)))
            bench.now += chance.choice((1, HEARTBEAT))
        might += licensed - start
        machine.meter = chance.randrange(machine.meter, licensed + 1)
        bench.now += AHEAD
        machine.reboot(f"{boots:02x}")
    assert 50 < might <= 60
    assert order.kind == STOP
