"""The custodian's work on a ledger: grant, revoke, and continue after a backup was restored."""

import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from aicert.broker import generation
from aicert.broker.broker import TOKEN_DIGITS, Keys, digest_of
from aicert.broker.errors import StaleLedgerError
from aicert.broker.store import Lease, Rows, Store
from aicert.errors import ConfigError
from aicert.files.bounded import read_bounded
from aicert.frozen import dataclass
from aicert.lease import bundle
from aicert.lease import terms as lease_terms
from aicert.lease.terms import TPM_ALONE, Terms
from aicert.leasing import granting

MAX_BORROWER: Final = 200
# The smallest default for how many tokens a licence lets a machine serve beyond its last receipt. A
# machine that ends without a kill receipt is charged for them.
LEAST_ADVANCE: Final = 1_000_000
_PART: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRequest:
    """What a borrower may be given: tokens (`budget`), and seconds from now on (`duration`).

    `advance`: how many tokens a licence may run ahead of the last receipt, None for the default.
    """

    borrower: str
    budget: int
    duration: int
    advance: int | None = None


class Granted:
    """A recorded grant. The token is stored nowhere else, and no representation shows it."""

    __slots__ = ("advance", "terms", "ticks", "token", "until")

    def __init__(self, *, terms: Terms, ticks: int, advance: int, until: int, token: str) -> None:
        self.terms = terms
        self.ticks = ticks
        self.advance = advance
        self.until = until
        self.token = token

    def __repr__(self) -> str:
        return f"Granted(lease={self.terms.lease!r})"


def terms_of(folder: Path) -> Terms:
    """Read the terms of the bundle at `folder`."""
    return lease_terms.parse(
        read_bounded(folder / bundle.TERMS, lease_terms.MAX_BYTES, "lease terms")
    )


def grant(store: Store, folder: Path, keys: Keys, wanted: GrantRequest, *, now: int) -> Granted:
    """Record a grant; a broker gives what it allows to whoever has its token."""
    place = folder.resolve()
    terms = terms_of(place)
    granting.require_own(keys(place), terms)
    if terms.key == TPM_ALONE:
        raise ConfigError(
            "the lease is for machines that run offline: no broker has half of its key",
            hint="aicert lease issue ENROLMENT --offline",
        )
    ticks, advance = _ticks(terms, wanted)
    if not 0 < len(wanted.borrower) <= MAX_BORROWER:
        raise ConfigError(
            f"a borrower's name has 1 to {MAX_BORROWER} characters", hint="--borrower acme"
        )
    token = secrets.token_hex(TOKEN_DIGITS // 2)
    until = now + wanted.duration
    with ExitStack() as after:
        with store.transaction() as rows:
            lease = _lease(rows, terms, place)
            # A lease that was never granted has no file yet. For any other lease, a missing file
            # was lost, along with what it recorded.
            held = after.enter_context(generation.held(place, create=not lease.generation))
            held.check(lease.generation)
            if lease.revoked_at is not None:
                raise ConfigError("the lease is revoked, for good", hint="aicert lease pack")
            rows.add_grant(
                digest_of(token), lease=terms.lease, borrower=wanted.borrower, ticks=ticks,
                advance=advance, until=until, granted_at=now,
            )  # fmt: skip
            number = rows.raise_generation(terms.lease)
        held.record(number)
    return Granted(terms=terms, ticks=ticks, advance=advance, until=until, token=token)


def _ticks(terms: Terms, wanted: GrantRequest) -> tuple[int, int]:
    advance = wanted.advance
    if advance is None:
        advance = max(LEAST_ADVANCE, wanted.budget // _PART)
    tokens = (wanted.budget, min(advance, wanted.budget))
    ticks, ahead = (count // terms.tick_tokens for count in tokens)
    if not ticks or not ahead:
        raise ConfigError(
            f"budget or advance is less than one tick of {terms.tick_tokens} tokens",
            hint=f"--budget {terms.tick_tokens} --advance {terms.tick_tokens}",
        )
    return ticks, ahead


def _lease(rows: Rows, terms: Terms, folder: Path) -> Lease:
    """Return the lease's row, which is added if it is new; what was already given stays
    recorded.
    """
    lease = rows.lease(terms.lease)
    if lease is None:
        rows.add_lease(terms, folder)
        lease = Lease(terms=terms, folder=folder, generation=0, revoked_at=None)
    elif lease.terms.digest != terms.digest:
        raise ConfigError(
            "the ledger has this lease with different terms",
            hint="aicert lease pack -o FOLDER    # new terms are a new lease",
        )
    rows.move_lease(terms.lease, folder)
    return lease


def revoke(store: Store, folder: Path, *, now: int, borrower: str | None = None) -> int:
    """End the lease, or one borrower's grants of it.

    Returns how many grants that ended, not counting those that had ended before.
    """
    place = folder.resolve()
    terms = terms_of(place)
    with ExitStack() as after:
        with store.transaction() as rows:
            lease = rows.lease(terms.lease)
            if lease is None:
                raise ConfigError(
                    "the ledger has no such lease", hint="aicert lease status --ledger FILE"
                )
            which = [
                grant
                for grant in rows.grants(terms.lease)
                if borrower is None or grant.borrower == borrower
            ]
            if borrower is not None and not which:
                raise ConfigError(
                    "nothing was granted to this borrower", hint="aicert lease status --ledger FILE"
                )
            closed = [grant.number for grant in which if grant.closed_at is None]
            _close(rows, closed, now)
            if borrower is None:
                rows.revoke(terms.lease, now)
            held = _unless_behind(lease, after)
            number = 0 if held is None else rows.raise_generation(terms.lease)
        if held is not None:
            held.record(number)
    return len(closed)


def _unless_behind(lease: Lease, after: ExitStack) -> generation.GenerationFile | None:
    """Return the lease's generation file; None if the ledger is behind it.

    Then the number must not be raised: the ledger would look current.
    """
    try:
        held = after.enter_context(generation.held(lease.folder))
        held.check(lease.generation)
    except StaleLedgerError:
        return None
    return held


def resume(store: Store, folder: Path, *, now: int) -> int:
    """Continue with a ledger that has forgotten what it gave.

    Every grant that it knows is ended, because it may know too little. Returns how many there were.
    """
    place = folder.resolve()
    terms = terms_of(place)
    with ExitStack() as after:
        with store.transaction() as rows:
            if rows.lease(terms.lease) is None:
                rows.add_lease(terms, place)
            rows.move_lease(terms.lease, place)
            open_grants = [
                grant.number for grant in rows.grants(terms.lease) if grant.closed_at is None
            ]
            _close(rows, open_grants, now)
            held = after.enter_context(generation.held(place, create=True))
            number = rows.raise_generation(terms.lease, held.number)
        held.record(number)
    return len(open_grants)


def _close(rows: Rows, numbers: list[int], now: int) -> None:
    for number in numbers:
        rows.change(number, closed_at=now)
