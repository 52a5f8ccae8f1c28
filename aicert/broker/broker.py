"""Decide what the broker gives to a machine, and when it gives nothing.

    token ── challenge, enrolment ── nonce, receipt, order ── … ── kill receipt

A token enrols one machine, once; from then on it only lets a courier ask for nonces and hand in
what that machine signed. A grant answers a receipt that this machine's TPM signed, that continues
the last receipt, and whose nonce is the broker's latest. The broker's half of the content key is
sealed to the key that such a receipt names, and to no other. A licence runs three heartbeats ahead.

A boot is granted only when the boot before it surely no longer serves: its kill receipt is here, or
its last licence has run out by the broker's clock. In the second case, what that licence allowed
without a receipt is charged: whoever runs a copy of a machine's state pays for both.

The same receipt gets the same answer again, byte for byte, since an answer may be lost.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aicert.appraisal.policy import Policy
from aicert.broker import generation
from aicert.broker import machine_state as form
from aicert.broker.errors import TokenError, WaitError
from aicert.broker.machine_state import MachineState
from aicert.broker.store import Grant, Lease, Rows, Store
from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.formats.digest import is_hex
from aicert.formats.tpm import CounterReading
from aicert.frozen import dataclass, replace
from aicert.lease import blob, enrolment, ledger, licence, orders, receipts, tpm_policy
from aicert.lease.checks import RefusedError, checking
from aicert.lease.custody import Secrets
from aicert.lease.licence import MAX_COUNT, Bounds
from aicert.lease.orders import Order
from aicert.lease.receipts import Heartbeat, Receipt
from aicert.leasing import enrolments, granting
from aicert.leasing.enrolments import Enrolled

TOKEN_DIGITS: Final = 64
NONCE_BYTES: Final = 32
# A licence ends this many heartbeats after the receipt that it answers.
HEARTBEATS_AHEAD: Final = 3
# A clock that is corrected in steps goes back by less than this.
CLOCK_SLACK_S: Final = 5

Keys = Callable[[Path], Secrets]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptChallenge:
    """What a machine needs for its next receipt.

    `nonce`: the nonce that it must answer. `seq`, `head`: number and digest of its last receipt.
    """

    nonce: bytes
    seq: int
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The grant and lease that a request is about, inside a transaction."""

    rows: Rows
    lease: Lease
    grant: Grant
    now: int

    @property
    def is_revoked(self) -> bool:
        return self.lease.revoked_at is not None or self.grant.closed_at is not None

    @property
    def seen(self) -> MachineState:
        if self.grant.seen is None:
            raise TokenError("the token has enrolled no machine yet")
        try:
            return form.parse(self.grant.seen, self.lease.terms)
        except EvidenceError as error:
            # The row is from the custodian's file, not from the borrower's message.
            raise ToolError(f"the ledger is damaged: {error.message}") from None


def digest_of(token: str) -> bytes:
    """Return the digest by which the ledger knows a token."""
    return hashlib.sha256(b"aicert token v1\0" + token.encode("utf-8", "replace")).digest()


class Broker:
    """Answers couriers from a ledger.

    `keys`: reads the secrets of the lease whose bundle is at a folder. `policy`: says which
    machines may enrol; a broker that starts judges enrolled machines by it again.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        keys: Keys,
        *,
        now: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._store = store
        self._policy = policy
        self._keys = keys
        self._now = now
        self._machines: dict[int, Enrolled] = {}

    # --- Enrolment.

    def challenge(self, token: str) -> bytes:
        """Return a new nonce for the machine's enrolment to answer; earlier ones become void."""
        with self._case(token) as case:
            self._require_grantable(case)
            if case.grant.enrolment is not None:
                raise TokenError("the token has enrolled a machine already")
            nonce = secrets.token_bytes(NONCE_BYTES)
            case.rows.change(case.grant.number, challenge=nonce)
            return nonce

    def enrol(self, token: str, data: bytes) -> bytes:
        """Return the blob for the machine of this enrolment, if the policy accepts it."""
        with self._case(token, gives=True) as case:
            grant, terms = case.grant, case.lease.terms
            if grant.enrolment is not None and grant.blob is not None:
                if grant.enrolment == data:
                    return grant.blob
                raise TokenError("the token has enrolled a machine already")
            self._require_grantable(case)
            if grant.challenge is None:
                raise RefusedError("enrol.nonce", "it answers no nonce of this broker")
            machine = self._appraised(data, case, case.now, nonce=grant.challenge)
            if machine.meter.value + grant.ticks > MAX_COUNT:
                raise RefusedError("enrol.counters", "the meter leaves no room for the budget")
            wrapped = blob.emit(granting.wrap(self._secrets(case.lease), terms, machine))
            first = MachineState(
                ledger=ledger.opened(terms, machine.meter), epoch=machine.epoch.value
            )
            case.rows.change(
                grant.number, enrolment=data, enrolled_at=case.now, blob=wrapped,
                seen=form.emit(first),
            )  # fmt: skip
            return wrapped

    # --- Serving.

    def nonce(self, token: str, boot: str) -> ReceiptChallenge:
        """Return the nonce for the next receipt of the boot with this TLS key (SHA-256, hex).

        Raises WaitError while the boot before it may still serve: a receipt that is refused for
        that reason would break the machine's chain.
        """
        with self._case(token) as case:
            seen = case.seen
            if seen.ledger.is_revoked:
                raise RefusedError("ledger.state", "the lease is revoked")
            if boot != seen.ledger.boot:
                _require_ended(seen, case.now)
            nonce = secrets.token_bytes(NONCE_BYTES)
            case.rows.put_seen(case.grant.number, replace(seen, nonce=nonce.hex()))
            return ReceiptChallenge(nonce=nonce, seq=seen.ledger.seq, head=seen.ledger.head)

    def receipt(self, token: str, data: bytes) -> bytes:
        """Take a receipt, and return the signed order that answers it.

        The answer is empty if nothing answers the receipt: one that a machine signs after its end,
        or a kill receipt.
        """
        given = receipts.parse(data)
        with self._case(token, gives=True) as case:
            machine = self._machine(case)
            if tpm_policy.counter_name(licence.EPOCH_INDEX) in given.attest:
                return self._killed(case, given, machine, data)
            reading = receipts.verify(given, machine.receipt_key, licence.METER_INDEX)
            with checking("receipt.form"):
                heartbeat = receipts.parse_heartbeat(given.body)
            seen = case.seen
            if receipts.digest(given).hex == seen.ledger.head:
                return seen.order
            _require_no_copy(heartbeat, seen)
            if _is_after_the_end(heartbeat, seen):
                new = ledger.after(seen.ledger, given, heartbeat, reading, seen.answered)
                later = replace(seen, ledger=new, order=b"")
            else:
                later = self._answered(case, seen, given, heartbeat, reading)
            case.rows.put_seen(case.grant.number, later)
            case.rows.keep(case.grant.number, case.now, data, later)
            return later.order

    def end(self, token: str) -> None:
        """End this boot, as the borrower asks: an order to stop will answer the next receipt.

        Then the next boot need not wait, or pay for what this one did not serve.
        """
        with self._case(token) as case:
            case.rows.put_seen(case.grant.number, replace(case.seen, wants_end=True))

    def state(self, token: str) -> dict[str, object]:
        """Return what a borrower may know about their own grant."""
        with self._case(token) as case:
            grant, terms = case.grant, case.lease.terms
            document: dict[str, object] = {
                "budget": grant.ticks * terms.tick_tokens,
                "enrolled": grant.enrolment is not None,
                "lease": terms.lease,
                "revoked": case.is_revoked,
                "until": grant.until,
            }
            if grant.seen is not None:
                seen = case.seen
                total = seen.ledger.total
                document |= {
                    "charged": seen.charged * terms.tick_tokens,
                    "head": seen.ledger.head,
                    "seq": seen.ledger.seq,
                    "tokensIn": total.tokens_in,
                    "tokensOut": total.tokens_out,
                }
            return document

    def require_known(self, token: str) -> None:
        """Raise TokenError unless there is a grant with this token."""
        with self._store.transaction(reads=True) as stored:
            if not is_hex(token, TOKEN_DIGITS) or stored.grant_of(digest_of(token)) is None:
                raise TokenError("there is no grant with this token")

    def note_refusal(self, token: str, words: str) -> None:
        """Record why a machine was refused, for the custodian; only the last reason is kept."""
        with self._store.transaction() as stored:
            grant = stored.grant_of(digest_of(token))
            if grant is not None:
                stored.change(grant.number, refusal=words, refused_at=self._now())

    # --- Inside.

    @contextmanager
    def _case(self, token: str, *, gives: bool = False) -> Iterator[_Case]:
        """Open a transaction about a token's grant.

        If the transaction `gives` anything, the lease's generation is raised, in the ledger and
        beside the keys, before anybody gets an answer.
        """
        if not is_hex(token, TOKEN_DIGITS):
            raise TokenError("there is no grant with this token")
        with ExitStack() as after:
            with self._store.transaction() as stored:
                grant = stored.grant_of(digest_of(token))
                lease = None if grant is None else stored.lease(grant.lease)
                if grant is None or lease is None:
                    raise TokenError("there is no grant with this token")
                held = after.enter_context(generation.held(lease.folder))
                held.check(lease.generation)
                yield _Case(rows=stored, lease=lease, grant=grant, now=self._time(stored))
                number = stored.raise_generation(lease.terms.lease) if gives else lease.generation
            held.record(number)

    def _time(self, stored: Rows) -> int:
        """Return the time, but never one earlier than the ledger's newest entry.

        A clock that was set back would admit a boot while another serves, and lengthen grants.
        """
        now, newest = self._now(), stored.newest()
        if now < newest - CLOCK_SLACK_S:
            raise ToolError(
                f"the clock is {newest - now} s behind the newest entry of the ledger: nothing is "
                "granted until it is right",
                hint="timedatectl",
            )
        return max(now, newest)

    def _require_grantable(self, case: _Case) -> None:
        if case.is_revoked:
            raise RefusedError("ledger.state", "the lease is revoked")
        if case.now >= case.grant.until:
            raise TokenError("the grant has ended")

    def _appraised(self, data: bytes, case: _Case, at: int, nonce: bytes | None = None) -> Enrolled:
        return enrolments.appraise(
            enrolment.parse(data),
            case.lease.terms,
            self._policy,
            at=datetime.fromtimestamp(at, UTC),
            nonce=nonce,
        )

    def _machine(self, case: _Case) -> Enrolled:
        """Return the enrolled machine, appraised under today's policy."""
        grant = case.grant
        if grant.enrolment is None or grant.enrolled_at is None:
            raise TokenError("the token has enrolled no machine yet")
        if grant.number not in self._machines:
            machine = self._appraised(grant.enrolment, case, grant.enrolled_at)
            self._machines[grant.number] = machine
        return self._machines[grant.number]

    def _secrets(self, lease: Lease) -> Secrets:
        try:
            kept = self._keys(lease.folder)
            granting.require_own(kept, lease.terms)
        except AicertError as error:
            # These are the custodian's own files, so the answer does not mention them.
            raise ToolError(f"the lease's keys cannot be used: {error.message}") from None
        return kept

    def _answered(
        self,
        case: _Case,
        seen: MachineState,
        given: Receipt,
        heartbeat: Heartbeat,
        reading: CounterReading,
    ) -> MachineState:
        """Return the machine's state after this receipt, with the order that answers it."""
        if not seen.nonce:
            raise RefusedError("receipt.fresh", "it answers no nonce of this broker")
        new = ledger.after(seen.ledger, given, heartbeat, reading, seen.nonce)
        later = replace(seen, ledger=new, nonce="", answered=heartbeat.nonce)
        is_new = new.boot != seen.ledger.boot
        if seen.is_over and not is_new:
            raise RefusedError("ledger.state", "the boot has ended: its kill receipt is here")
        if is_new:
            later = replace(_started(later, seen, reading, case.now), ending=b"")
        limit = self._machine(case).meter.value + case.grant.ticks - later.charged
        kind = orders.GRANT
        if case.is_revoked:
            kind = orders.REVOKE
        elif later.wants_end or case.now >= case.grant.until or (is_new and limit <= reading.value):
            kind = orders.STOP
        return self._ordered(case, later, kind, heartbeat, reading, limit)

    def _ordered(
        self, case: _Case, later: MachineState, kind: str, heartbeat: Heartbeat,
        reading: CounterReading, limit: int,
    ) -> MachineState:  # fmt: skip
        terms, kept = case.lease.terms, self._secrets(case.lease)
        given = half = b""
        if kind == orders.GRANT:
            seconds = min(HEARTBEATS_AHEAD * terms.heartbeat_seconds, case.grant.until - case.now)
            bounds = Bounds(
                budget=min(limit, reading.value + case.grant.advance),
                epoch=later.epoch,
                clock=min(reading.clock.clock + 1000 * seconds, MAX_COUNT),
                # The licence is for this boot and no other.
                resets=reading.clock.reset_count,
                restarts=0,
            )
            given = licence.emit(granting.licensed(kept, terms, self._machine(case), bounds))
            if heartbeat.half_for:
                half = orders.seal_half(kept.broker_half, heartbeat, terms.digest)
            later = replace(later, licensed=bounds.budget, licensed_until=case.now + seconds)
        order = Order(
            kind=kind,
            lease=terms.lease,
            terms=terms.digest,
            boot=heartbeat.boot,
            epoch=later.epoch,
            seq=heartbeat.seq,
            answers=later.ledger.head,
            # The number to which this transaction raises the lease's generation.
            generation=case.lease.generation + 1,
            licence=given,
            half=half,
        )
        signed = orders.sign(kept.key, order)
        ending = later.ending if kind == orders.GRANT else signed.order
        return replace(later, order=orders.emit(signed), ending=ending)

    def _killed(self, case: _Case, given: Receipt, machine: Enrolled, data: bytes) -> bytes:
        """Take a kill receipt: the machine says that it ended, and the epoch proves it.

        Nothing answers it.
        """
        reading = receipts.verify(given, machine.receipt_key, licence.EPOCH_INDEX)
        seen = case.seen
        if given.body != seen.ending:
            raise RefusedError(
                "ledger.state", "the kill receipt is for an order that was not given"
            )
        order = orders.parse_order(seen.ending)
        if reading.value <= order.epoch:
            raise RefusedError("ledger.state", "the epoch was not raised for the kill receipt")
        if seen.is_over:
            return b""
        is_revoked = order.kind == orders.REVOKE
        later = replace(
            seen,
            ledger=ledger.revoked(seen.ledger) if is_revoked else seen.ledger,
            epoch=reading.value,
            licensed=0,
            licensed_until=0,
            wants_end=False,
            is_over=True,
        )
        case.rows.put_seen(case.grant.number, later)
        case.rows.keep(case.grant.number, case.now, data, later)
        return b""


def _require_no_copy(heartbeat: Heartbeat, seen: MachineState) -> None:
    """Raise RefusedError if this boot signed another receipt with this number.

    One machine never does that, but two copies of its memory and TPM each sign their own.
    """
    if (heartbeat.boot, heartbeat.seq) == (seen.ledger.boot, seen.ledger.seq):
        raise RefusedError(
            "ledger.successor",
            f"there is another receipt {heartbeat.seq} of this boot: two copies of the machine are "
            "running, with memory and TPM",
        )


def _is_after_the_end(heartbeat: Heartbeat, seen: MachineState) -> bool:
    """Return whether a receipt repeats the nonce of the last receipt.

    A machine does this when it ends, since it has no newer nonce. Such a receipt counts, but
    nothing answers it.
    """
    return (heartbeat.nonce, heartbeat.boot) == (seen.answered, seen.ledger.boot)


def _require_ended(seen: MachineState, now: int) -> None:
    """Raise WaitError while the last granted boot may still serve."""
    if seen.licensed_until > now:
        left = seen.licensed_until - now
        raise WaitError(
            f"ledger.boots: the boot before this one may still serve for {left} s; it could have "
            "ended by an order to stop",
            left,
        )


def _started(
    later: MachineState, seen: MachineState, reading: CounterReading, now: int
) -> MachineState:
    """Return the machine's state at the start of a boot; the previous boot no longer serves.

    Unless its end is proved, the previous boot is charged for all that its licence still allowed,
    because a copy of its state could have served that.
    """
    try:
        _require_ended(seen, now)
    except WaitError as error:
        raise RefusedError("ledger.boots", error.message.partition(": ")[2]) from None
    lost = max(0, seen.licensed - reading.value)
    return replace(
        later, charged=seen.charged + lost, licensed=0, licensed_until=0, is_over=False,
        wants_end=False,
    )  # fmt: skip


def refusal_of(error: AicertError) -> str:
    """Return a refusal in one line, for the custodian."""
    return error.message.partition("\n")[0]
