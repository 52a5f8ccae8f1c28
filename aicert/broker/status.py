"""Report what was granted and used of each lease, for its custodian: as text, as JSON, as files.

The counts are from receipts that were verified when they came. Nothing here decides anything, and
the reports contain no secret.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aicert.broker import machine_state as form
from aicert.broker.store import Grant, Lease, Rows, Store
from aicert.errors import ToolError
from aicert.files.bounded import why
from aicert.frozen import dataclass
from aicert.text import safe

DAYS: Final = 60
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What was used of one grant.

    Counts are of tokens. `days`: for each day, by its name (UTC), how much its receipts added;
    oldest first, none left out. `last_at`: when the last receipt came. `state`: in a word or two.
    """

    lease: str
    number: int
    borrower: str
    state: str
    budget: int
    tokens_in: int
    tokens_out: int
    charged: int
    requests: int
    receipts: int
    until: int
    last_at: int | None
    refusal: str | None
    days: tuple[tuple[str, int], ...]

    @property
    def used(self) -> int:
        """Return the tokens that receipts show."""
        return self.tokens_in + self.tokens_out

    @property
    def left(self) -> int:
        """Return the most tokens that can be left, by the receipts."""
        return max(0, self.budget - self.used - self.charged)


def uses(store: Store, *, now: int) -> list[Use]:
    """Return every grant of every lease."""
    with store.transaction(reads=True) as stored:
        return [
            _use(stored, lease, grant, now)
            for lease in stored.leases()
            for grant in stored.grants(lease.terms.lease)
        ]


def _use(stored: Rows, lease: Lease, grant: Grant, now: int) -> Use:
    seen = None if grant.seen is None else form.parse(grant.seen, lease.terms)
    tick = lease.terms.tick_tokens
    days: dict[int, int] = {}
    before, count, last_at = 0, 0, None
    for kept in stored.receipts(grant.number):
        total = kept.tokens_in + kept.tokens_out
        day = kept.at // _DAY
        days[day] = days.get(day, 0) + total - before
        before, count, last_at = total, count + 1, kept.at
    total_usage = None if seen is None else seen.ledger.total
    return Use(
        lease=grant.lease,
        number=grant.number,
        borrower=grant.borrower,
        state=_state(lease, grant, seen, now),
        budget=grant.ticks * tick,
        tokens_in=0 if total_usage is None else total_usage.tokens_in,
        tokens_out=0 if total_usage is None else total_usage.tokens_out,
        charged=0 if seen is None else seen.charged * tick,
        requests=0 if total_usage is None else total_usage.requests,
        receipts=count,
        until=grant.until,
        last_at=last_at,
        refusal=grant.refusal,
        days=_by_name(days),
    )


def _by_name(days: dict[int, int]) -> tuple[tuple[str, int], ...]:
    """Return the latest days, including days without receipts between them."""
    if not days:
        return ()
    last = max(days)
    listed = range(max(min(days), last - DAYS + 1), last + 1)
    return tuple(
        (datetime.fromtimestamp(day * _DAY, UTC).strftime("%Y-%m-%d"), days.get(day, 0))
        for day in listed
    )


def _state(lease: Lease, grant: Grant, seen: form.MachineState | None, now: int) -> str:
    if lease.revoked_at is not None or grant.closed_at is not None:
        if seen is not None and seen.ledger.is_revoked:
            return "revoked, obeyed"
        serves = seen is not None and seen.licensed_until > now
        return "revoked, may serve on" if serves else "revoked"
    if now >= grant.until:
        return "ended"
    if seen is None:
        return "not enrolled"
    if seen.licensed_until > now:
        return "serving"
    if not seen.ledger.boot:
        return "enrolled"
    return "stopped" if seen.is_over else "silent"


def to_json(given: list[Use]) -> str:
    """Return the grants as a JSON list of objects."""
    document = [
        {
            "lease": use.lease,
            "grant": use.number,
            "borrower": use.borrower,
            "state": use.state,
            "budget": use.budget,
            "tokens": {"in": use.tokens_in, "out": use.tokens_out},
            "charged": use.charged,
            "requests": use.requests,
            "receipts": use.receipts,
            "until": use.until,
            "lastReceipt": use.last_at,
            "refusal": use.refusal,
            "days": dict(use.days),
        }
        for use in given
    ]
    return json.dumps(document, indent=2) + "\n"


def moment(seconds: int) -> str:
    """Return a time as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def text(given: list[Use], now: int) -> str:
    """Return the grants as text for a terminal: one paragraph each."""
    if not given:
        return "nothing was granted yet\n"
    return "\n".join(_paragraph(use, now) for use in given)


def _paragraph(use: Use, now: int) -> str:
    facts = [
        ("lease", use.lease),
        ("borrower", safe(use.borrower)),
        ("state", use.state),
        ("used", f"{use.tokens_in:,} in, {use.tokens_out:,} out, {requests(use)}"),
        ("budget", f"{use.budget:,} tokens, at most {use.left:,} left"),
        ("until", moment(use.until)),
        ("receipts", _last(use, now)),
    ]
    if use.charged:
        facts.insert(5, ("charged", f"{use.charged:,} tokens: boots without a kill receipt"))
    if use.refusal is not None:
        facts.append(("refused", safe(use.refusal)))
    if use.days:
        facts.append(("days", "; ".join(f"{day} {tokens:,}" for day, tokens in use.days[-7:])))
    return "".join(f"{word:<10}{value}\n" for word, value in facts)


def _last(use: Use, now: int) -> str:
    if use.last_at is None:
        return "none"
    return f"{use.receipts:,}, the last {_span(max(0, now - use.last_at))} ago"


def requests(use: Use) -> str:
    """Return the number of requests, in words."""
    return f"{use.requests:,} request{'' if use.requests == 1 else 's'}"


def _span(seconds: int) -> str:
    """Return a duration in the largest unit of which it has two or more."""
    for unit, name in ((_DAY, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def write_receipts(store: Store, folder: Path) -> None:
    """Write `N/enrolment.json` and `N/receipts.jsonl` for each grant whose machine enrolled.

    `aicert lease receipts` reads these files.
    """
    with store.transaction(reads=True) as stored:
        try:
            folder.mkdir(exist_ok=True)
            for lease in stored.leases():
                for grant in stored.grants(lease.terms.lease):
                    if grant.enrolment is not None:
                        _write(stored, grant, grant.enrolment, folder / str(grant.number))
        except OSError as error:
            raise ToolError(f"cannot write {os.fspath(folder)!a}: {why(error)}") from None


def _write(stored: Rows, grant: Grant, enrolment: bytes, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "enrolment.json").write_bytes(enrolment)
    with (folder / "receipts.jsonl").open("wb") as stream:
        for kept in stored.receipts(grant.number):
            stream.write(kept.data + b"\n")
