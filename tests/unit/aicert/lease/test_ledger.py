from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.lease import ledger as ledgers
from aicert.lease import licence, receipts
from aicert.lease.ledger import Ledger
from aicert.lease.receipts import Receipt, Usage
from tests.unit.aicert.lease.forge import KEY, NONCE, heartbeat, receipt
from tests.vectors.leases import agreed

BOOT, NEXT = "b0" * 32, "b1" * 32


AT: dict[str, Any] = {"clock": 1000, "reset": 7, "restart": 0}


def verified(signed: Receipt) -> Any:
    return receipts.verify(signed, KEY, licence.METER_INDEX)


def opened() -> Ledger:
    return ledgers.opened(agreed(), verified(receipt(b"enrolment", 10, **AT)))


def beat(
    ledger: Ledger, value: int, usage: Usage, *, boot: str = BOOT, changes: Any = None,
    nonce: str | None = NONCE, **clock: Any,
) -> Ledger:  # fmt: skip
    """Return the ledger after the next heartbeat, with these changes."""
    given = {"seq": ledger.seq + 1, "previous": ledger.head, "boot": boot, "usage": usage}
    sent = heartbeat(**given | (changes or {}))
    signed = receipt(receipts.emit_heartbeat(sent), value, **AT | clock)
    return ledgers.after(ledger, signed, sent, verified(signed), nonce)


def running() -> Ledger:
    return beat(opened(), 12, Usage(tokens_in=1500, tokens_out=500, requests=2, ticks=2))


def test_receipts_add_up_over_boots() -> None:
    ledger = beat(running(), 13, Usage(tokens_in=2000, tokens_out=1000, requests=3, ticks=3))
    assert ledger.total == Usage(tokens_in=2000, tokens_out=1000, requests=3, ticks=3)
    ledger = beat(ledger, 14, Usage(tokens_out=10, ticks=1), boot=NEXT, reset=8, clock=2000)
    assert ledger.total == Usage(tokens_in=2000, tokens_out=1010, requests=3, ticks=4)
    assert (ledger.seq, ledger.meter, ledger.resets, ledger.first_meter) == (3, 14, 8, 13)
    # The meter may exceed what was served: another image, or a tick before a crash.
    ledger = beat(ledger, 99, Usage(tokens_out=10, ticks=1), boot=NEXT, reset=8, clock=2000)
    assert ledger.meter == 99


def test_a_boot_asks_for_its_half_before_it_serves() -> None:
    asked: dict[str, Any] = {"changes": {"half_for": "ab" * 32}}
    assert beat(opened(), 10, Usage(), **asked).seq == 1
    assert beat(running(), 12, Usage(), boot=NEXT, reset=8, **asked).boot == NEXT


def test_who_reads_afterwards_asks_for_no_nonce() -> None:
    assert beat(opened(), 10, Usage(), nonce=None).seq == 1


@pytest.mark.parametrize(
    ("check", "given"),
    [
        ("receipt.fresh", {"changes": {"nonce": "00" * 32}}),
        ("ledger.successor", {"changes": {"lease": "0" * 32}}),
        ("ledger.successor", {"changes": {"seq": 1}}),
        ("ledger.successor", {"changes": {"seq": 3}}),
        ("ledger.successor", {"changes": {"previous": "00" * 32}}),
        ("ledger.meter", {"value": 11}),
        ("ledger.meter", {"usage": Usage(tokens_in=1500, tokens_out=500, requests=2, ticks=3)}),
        ("ledger.boots", {"reset": 8}),
        ("receipt.boot", {"restart": 1}),
        ("ledger.boots", {"boot": NEXT}),
        ("ledger.boots", {"boot": NEXT, "reset": 6}),
        # The broker's half is for a boot that begins.
        ("ledger.boots", {"changes": {"half_for": "ab" * 32}}),
        ("ledger.boots", {"changes": {"half_for": "ab" * 32}, "boot": NEXT, "reset": 8}),
        ("ledger.clock", {"clock": 999}),
        ("ledger.clock", {"clock": 999, "boot": NEXT, "reset": 8, "usage": Usage()}),
        ("ledger.tokens", {"usage": Usage(tokens_in=1501, tokens_out=500, requests=2, ticks=2)}),
        ("ledger.tokens", {"usage": Usage(tokens_in=1499, tokens_out=500, requests=2, ticks=2)}),
        ("ledger.tokens", {"usage": Usage(tokens_in=1500, tokens_out=500, requests=1, ticks=2)}),
    ],
)
def test_a_receipt_that_does_not_follow_is_refused_by_its_check(
    check: str, given: dict[str, Any]
) -> None:
    usual: dict[str, Any] = {"value": 12, "usage": running().usage}
    with pytest.raises(EvidenceError, match=f"^{check}: "):
        beat(running(), **usual | given)


def test_a_power_cut_may_cost_the_clock_an_hour_and_not_more() -> None:
    late = beat(running(), 12, running().usage, clock=10_000_000)
    cut: dict[str, Any] = {"boot": NEXT, "reset": 8, "safe": 0}
    least = 10_000_000 - ledgers.MAX_CLOCK_LOSS
    assert beat(late, 12, Usage(), clock=least, **cut).clock == least
    for clock, changes in ((least - 1, cut), (least, {**cut, "safe": 1})):
        with pytest.raises(EvidenceError, match=r"^ledger\.clock"):
            beat(late, 12, Usage(), clock=clock, **changes)


def test_ledger_state_stays_revoked() -> None:
    ended = ledgers.revoked(running())
    with pytest.raises(EvidenceError, match=r"^ledger\.state"):
        beat(ended, 12, ended.usage)


STORY = [(12, Usage(tokens_in=2000, ticks=2)), (13, Usage(tokens_in=2500, ticks=3)),
         (14, Usage(tokens_in=3500, ticks=4)), (14, Usage(tokens_in=4000, ticks=4))]  # fmt: skip


@given(st.lists(st.integers(0, len(STORY) - 1), max_size=6))
def test_ledger_successor_takes_receipts_in_their_order_only(order: list[int]) -> None:
    """Receipts may be replayed, dropped or reordered: the accepted ones are always a prefix."""
    ledger, sent = opened(), []
    for value, usage in STORY:
        message = heartbeat(seq=ledger.seq + 1, previous=ledger.head, usage=usage)
        signed = receipt(receipts.emit_heartbeat(message), value, **AT)
        sent.append((signed, message, verified(signed)))
        ledger = ledgers.after(ledger, *sent[-1], NONCE)
    ledger, taken, refused = opened(), [], set()
    for place in order:
        try:
            ledger = ledgers.after(ledger, *sent[place], NONCE)
            taken.append(place)
        except EvidenceError as error:
            refused.add(error.message.partition(":")[0])
    assert taken == list(range(len(taken)))
    assert refused <= {"ledger.successor"}
