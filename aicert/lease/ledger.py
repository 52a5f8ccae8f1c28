"""The custodian's ledger of one lease: each receipt continues the one before it, or is refused.

Only here does it show that a TPM's state was put back, or that it runs twice: its meter, clock or
chain of receipts is then not ahead of what was seen. Pure: `after` gives the ledger that follows,
and whoever keeps it writes that down. This is also how anybody adds receipts up.
"""

from typing import Final

from aicert.formats.tpm import CounterReading
from aicert.frozen import dataclass, replace
from aicert.lease.checks import RefusedError
from aicert.lease.receipts import Heartbeat, Receipt, Usage, digest
from aicert.lease.terms import Terms

# After a power cut a TPM goes on from the clock that it last wrote down, at most 2^22 ms before
# (TPM 2.0 Library, Part 1, clause 36.3.2), and says that its clock is not safe.
MAX_CLOCK_LOSS: Final = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What was seen of one lease.

    `head`: SHA-256 of the last receipt in hex, or of the terms before the first. `first_meter`: the
    meter at the start of the boot that runs; `earlier`: what the boots before it served, in all.
    """

    terms: Terms
    head: str
    meter: int
    clock: int
    resets: int
    seq: int = 0
    boot: str = ""
    first_meter: int = 0
    usage: Usage = Usage()
    earlier: Usage = Usage()
    is_revoked: bool = False

    @property
    def total(self) -> Usage:
        """Everything that was served."""
        return _sum(self.earlier, self.usage)


def opened(terms: Terms, reading: CounterReading) -> Ledger:
    """Return the ledger of a machine that was just enrolled: nothing was served yet."""
    return Ledger(
        terms=terms,
        head=terms.digest.hex,
        meter=reading.value,
        clock=reading.clock.clock,
        resets=reading.clock.reset_count,
    )


def after(
    ledger: Ledger,
    receipt: Receipt,
    heartbeat: Heartbeat,
    reading: CounterReading,
    nonce: str | None,
) -> Ledger:
    """Return the ledger with one more receipt; RefusedError names the check that refuses it.

    `heartbeat`: the receipt's body, as parsed; `reading`: the counter reading that was verified
    with it. `nonce`: the broker's own in hex, None for whoever reads receipts afterwards.
    """
    if nonce is not None and heartbeat.nonce != nonce:
        raise RefusedError("receipt.fresh", "it answers a different nonce")
    if ledger.is_revoked:
        raise RefusedError("ledger.state", "the lease is revoked")
    if heartbeat.lease != ledger.terms.lease:
        raise RefusedError("ledger.successor", "it is for a different lease")
    if (heartbeat.previous, heartbeat.seq) != (ledger.head, ledger.seq + 1):
        raise RefusedError(
            "ledger.successor",
            "it does not follow the last receipt: one is missing, or a copy is running\n"
            f"found     {heartbeat.seq} after {heartbeat.previous}\n"
            f"expected  {ledger.seq + 1} after {ledger.head}",
        )
    if reading.value < ledger.meter:
        raise RefusedError(
            "ledger.meter",
            f"it shows {reading.value} after {ledger.meter}: the TPM's state was restored",
        )
    is_new = heartbeat.boot != ledger.boot
    _check_boots(ledger, reading, is_new=is_new)
    _check_clock(ledger, reading, is_new=is_new)
    if heartbeat.half_for and (not is_new or heartbeat.usage != Usage()):
        raise RefusedError(
            "ledger.boots", "a boot that is already serving asks for half of the key"
        )
    usage, first_meter = heartbeat.usage, ledger.meter if is_new else ledger.first_meter
    _check_tokens(ledger, usage, is_new=is_new)
    if usage.ticks > reading.value - first_meter:
        raise RefusedError(
            "ledger.meter",
            f"{usage.ticks} ticks, but the meter went from {first_meter} to {reading.value}",
        )
    return replace(
        ledger,
        head=digest(receipt).hex,
        seq=heartbeat.seq,
        meter=reading.value,
        clock=reading.clock.clock,
        resets=reading.clock.reset_count,
        boot=heartbeat.boot,
        first_meter=first_meter,
        usage=usage,
        earlier=ledger.total if is_new else ledger.earlier,
    )


def revoked(ledger: Ledger) -> Ledger:
    """Return the ledger of a lease that is over, for good."""
    return replace(ledger, is_revoked=True)


def _check_boots(ledger: Ledger, reading: CounterReading, *, is_new: bool) -> None:
    resets, known = reading.clock.reset_count, ledger.resets
    if not is_new and resets != known:
        raise RefusedError("ledger.boots", "the TPM was reset, but the boot is the same")
    # A lease that was only enrolled may be opened in that very boot.
    if is_new and (resets < known or (ledger.boot and resets == known)):
        raise RefusedError(
            "ledger.boots", f"this is a new boot, but the TPM counts {resets} resets after {known}"
        )


def _check_clock(ledger: Ledger, reading: CounterReading, *, is_new: bool) -> None:
    lost = ledger.clock - reading.clock.clock
    was_cut = is_new and not reading.clock.safe and reading.clock.reset_count > ledger.resets
    if lost > (MAX_CLOCK_LOSS if was_cut else 0):
        raise RefusedError("ledger.clock", f"the TPM's clock went back by {lost} ms")


def _check_tokens(ledger: Ledger, usage: Usage, *, is_new: bool) -> None:
    served = usage.tokens_in + usage.tokens_out
    if served > usage.ticks * ledger.terms.tick_tokens:
        raise RefusedError(
            "ledger.tokens",
            f"{served} tokens were served, but only {usage.ticks} ticks of "
            f"{ledger.terms.tick_tokens} were paid",
        )
    before = Usage() if is_new else ledger.usage
    if any(getattr(usage, name) < getattr(before, name) for name in _COUNTS):
        raise RefusedError("ledger.tokens", "a count of this boot went down")


_COUNTS: Final = ("tokens_in", "tokens_out", "tokens_refused", "requests", "ticks")


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in _COUNTS})
