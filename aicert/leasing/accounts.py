"""Add up the receipts of one lease, in order, each verified.

Whoever keeps receipts may have lost some, may have two files with the same ones, or may have
receipts of a machine that ran twice. Each receipt names the one before it, which gives the order;
equal ones count once. Refused (`ledger.successor`) are a receipt that follows none of those given,
and two receipts that continue the same one. A kill receipt, which is about the epoch, ends a boot;
the account has ended if no later boot served.
"""

from collections.abc import Iterable
from typing import Final

from aicert.formats.tpm import CounterReading
from aicert.frozen import dataclass
from aicert.lease import ledger as ledgers
from aicert.lease import licence, orders, receipts, tpm_policy
from aicert.lease.checks import RefusedError
from aicert.lease.ledger import Ledger
from aicert.lease.orders import Order
from aicert.lease.receipts import Heartbeat, Receipt, Usage
from aicert.lease.terms import Terms
from aicert.leasing import lines
from aicert.leasing.enrolments import Enrolled

# One heartbeat per minute for a year.
MAX_RECEIPTS: Final = 600_000
MAX_LINE: Final = receipts.MAX_RECEIPT + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a kill receipt proves: the order that the machine obeyed, and the epoch since then."""

    order: Order
    epoch: int
    clock: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One receipt of an account.

    `usage`: what was served since the receipt before it. `boot`: SHA-256 of the TLS key of its
    boot, in hex. `clock`: the TPM's, in milliseconds.
    """

    seq: int
    boot: str
    clock: int
    resets: int
    meter: int
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Receipts that add up.

    `entries`: one for each receipt, in order. `first`: the meter's reading at the enrolment.
    `ending`: of the last boot, if a kill receipt shows it.
    """

    ledger: Ledger
    first: CounterReading
    entries: tuple[Entry, ...]
    ending: Ending | None

    @property
    def count(self) -> int:
        """Return how many receipts there are."""
        return len(self.entries)

    @property
    def boots(self) -> int:
        """Return from how many boots the receipts are."""
        return len({entry.boot for entry in self.entries})

    @property
    def total(self) -> Usage:
        """Return everything that was served."""
        return self.ledger.total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beat:
    receipt: Receipt
    heartbeat: Heartbeat
    reading: CounterReading


def parse_lines(data: bytes) -> list[Receipt]:
    """Parse a file of receipts, one per line; EvidenceError names a line that is not a receipt."""
    return lines.parse_lines(data, receipts.parse, "receipts", MAX_RECEIPTS)


def account(terms: Terms, machine: Enrolled, given: Iterable[Receipt]) -> Account:
    """Verify all receipts of the enrolled machine and put them in order.

    Raises RefusedError, which names the check.
    """
    beats: dict[str, _Beat] = {}
    endings: dict[bytes, tuple[Receipt, CounterReading]] = {}
    for receipt in given:
        if _is_about_the_epoch(receipt):
            reading = receipts.verify(receipt, machine.receipt_key, licence.EPOCH_INDEX)
            endings[receipt.body] = (receipt, reading)
        else:
            _put(beats, receipt, machine)
    ledger = ledgers.opened(terms, machine.meter)
    entries = []
    while ledger.head in beats:
        beat = beats.pop(ledger.head)
        before = ledger.total
        ledger = ledgers.after(ledger, beat.receipt, beat.heartbeat, beat.reading, None)
        entries.append(_entry(ledger, before))
    if beats:
        first = min(beat.heartbeat.seq for beat in beats.values())
        raise RefusedError(
            "ledger.successor",
            f"receipt {first} follows none of those here: the last one before it is {ledger.seq}",
        )
    return Account(
        ledger=ledger,
        first=machine.meter,
        entries=tuple(entries),
        ending=_ending(ledger, machine, endings),
    )


def _entry(ledger: Ledger, before: Usage) -> Entry:
    total = ledger.total
    return Entry(
        seq=ledger.seq,
        boot=ledger.boot,
        clock=ledger.clock,
        resets=ledger.resets,
        meter=ledger.meter,
        usage=Usage(
            tokens_in=total.tokens_in - before.tokens_in,
            tokens_out=total.tokens_out - before.tokens_out,
            tokens_refused=total.tokens_refused - before.tokens_refused,
            requests=total.requests - before.requests,
            ticks=total.ticks - before.ticks,
        ),
    )


def _put(beats: dict[str, _Beat], receipt: Receipt, machine: Enrolled) -> None:
    reading = receipts.verify(receipt, machine.receipt_key, licence.METER_INDEX)
    heartbeat = receipts.parse_heartbeat(receipt.body)
    other = beats.get(heartbeat.previous)
    if other is not None and other.receipt != receipt:
        raise RefusedError(
            "ledger.successor",
            f"receipts {other.heartbeat.seq} and {heartbeat.seq} continue the same one: the "
            "machine's state ran twice",
        )
    beats[heartbeat.previous] = _Beat(receipt=receipt, heartbeat=heartbeat, reading=reading)


def _is_about_the_epoch(receipt: Receipt) -> bool:
    # This decides only as which kind of receipt it is verified.
    return tpm_policy.counter_name(licence.EPOCH_INDEX) in receipt.attest


def _ending(
    ledger: Ledger, machine: Enrolled, endings: dict[bytes, tuple[Receipt, CounterReading]]
) -> Ending | None:
    """Check every kill receipt; return the last one's ending, or None if a later boot served."""
    last: Ending | None = None
    boots: set[str] = set()
    for receipt, reading in sorted(endings.values(), key=lambda ending: ending[1].value):
        order = orders.parse_order(receipt.body)
        if (order.lease, order.terms) != (ledger.terms.lease, ledger.terms.digest):
            raise RefusedError("ledger.state", "the kill receipt is for a different lease")
        if order.kind == orders.GRANT:
            raise RefusedError("ledger.state", "the kill receipt is for an order that ends nothing")
        # Before a machine reports its end, it raises the epoch: no old licence is valid again.
        if reading.value <= max(order.epoch, machine.epoch.value):
            raise RefusedError("ledger.state", "the epoch was not raised for the kill receipt")
        # A boot ends once, and the next one is granted at the epoch that this end left behind.
        if order.boot in boots or (last is not None and order.epoch < last.epoch):
            raise RefusedError("ledger.state", "there are kill receipts for two orders to one boot")
        boots.add(order.boot)
        last = Ending(order=order, epoch=reading.value, clock=reading.clock.clock)
    # The clock would not tell: after a power cut it may go back a little.
    return last if ledger.seq == 0 or ledger.boot in boots else None
