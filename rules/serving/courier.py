"""The courier's work, from the machine's first line to its last.

    ready ── enrolment and blob ── nonce, receipt, order ── opened ── serving ── … ── last receipt,
    ended

The machine is open once its state arrives. It then loads the model, while heartbeats go on.
With a broker, each heartbeat is a nonce, a receipt that answers it, and an order that answers the
receipt. Without one, the licence is a file, which a later one may replace while the machine
serves, and receipts are only stored. A broker that does not answer is asked again until the licence
runs out; then the machine ends by itself.
"""

import math
import queue
import secrets
import time
from pathlib import Path
from typing import Final, Protocol

from aicert.errors import AicertError, EvidenceError, ToolError, UndecidedError
from aicert.files.bounded import read_bounded
from aicert.frozen import dataclass
from aicert.lease import blob, courier, enrolment, licence, orders, receipts, tpm_policy
from aicert.lease.courier import Message
from aicert.lease.terms import Terms
from aicert.text import safe
from rules.serving.broker_client import Desk, RefusedHereError, SilentError, WaitError
from rules.serving.lease_state import LeaseFolder
from rules.serving.link import Link

# Limits: from power-on to the first line; loading a model; the end of a machine that was told to
# end.
BOOTS_S: Final = 1200.0
LOADS_S: Final = 3600.0
ANSWERS_S: Final = 600.0
ENDS_S: Final = 120.0
AGAIN_S: Final = 5.0
# A change of the computer's clock is noticed within this time.
MOST_WAIT_S = 60.0
_NONCE_BYTES: Final = 32
# The machine's names for an end by the courier's request, by its licence, and by a refusal.
ASKED, DEADLINE, REFUSED = "asked", "deadline", "refused"
AS_LICENSED: Final = (ASKED, DEADLINE, orders.REVOKE, orders.STOP)


class Shown(Protocol):
    """Shows a person what happens while a machine serves."""

    def step(self, text: str) -> None:
        """Show what happens now."""

    def note(self, text: str) -> None:
        """Show something that happened."""

    def state(self, message: Message) -> None:
        """Show the figures that the machine sends each second."""

    def receipt(self, seq: int, is_confirmed: bool) -> None:
        """Show that a receipt has arrived, and whether the broker has confirmed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A lease without a broker: the folder of its licence, and the custodian's
    challenge, if any.
    """

    folder: Path
    nonce: bytes | None = None


class NotIssuedError(UndecidedError):
    """The machine is enrolled, but there is no licence for it yet. `enrolment`: the file."""

    def __init__(self, enrolment_file: Path, hint: str) -> None:
        super().__init__("the machine is enrolled, and has no licence yet", hint=hint)
        self.enrolment = enrolment_file


class EndedError(ToolError):
    """The machine ended."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the machine ended: {reason}")
        self.reason = reason


class OverTimeError(ToolError):
    """The machine may not run for longer."""


class Carrier:
    """The courier of one boot. `custodian`: its broker, or its files. `until`: how long the machine
    may run.
    """

    def __init__(
        self,
        link: Link,
        kept: LeaseFolder,
        terms: Terms,
        custodian: Desk | Files,
        shown: Shown,
        until: float = math.inf,
    ) -> None:
        self._link, self._kept, self._terms = link, kept, terms
        self._custodian = custodian
        self._shown = shown
        self._until = until
        self._boot = ""
        self._is_resumed = False
        self._given = b""
        self._next_beat = 0.0
        self._is_opened = False
        self._port: int | None = None
        self._refused = ""
        self._is_over = False

    def serve(self) -> int:
        """Work until the machine serves. Returns its port."""
        self._boot = self._awaited(courier.READY, BOOTS_S).data.hex()
        if isinstance(self._custodian, Desk):
            self._hand_in_old(self._custodian)
            self._enrol(self._custodian)
            self._first_beat(self._custodian)
        else:
            self._open_by_file(self._custodian)
        self._shown.step("loading the model")
        until = time.monotonic() + LOADS_S
        while self._port is None:
            if time.monotonic() > until:
                raise ToolError(f"the machine did not load the model within {LOADS_S:.0f} s")
            self._turn()
        return self._port

    def carry(self) -> str:
        """Work until the machine has ended. Returns why."""
        while True:
            try:
                self._turn()
            except EndedError as error:
                return error.reason

    def _turn(self) -> None:
        """Handle one line from the machine, or the heartbeat that is due."""
        left = self._next_beat - time.monotonic()
        heard = self._next(max(0.0, min(left, MOST_WAIT_S)))
        if heard is not None and heard.kind == courier.REFUSED:
            if not self._is_opened:
                raise RefusedHereError(f"the machine refuses: {_text(heard)}")
            self._shown.note(f"the machine refuses: {_text(heard)}")
        # Even if it keeps sending lines.
        if time.monotonic() >= self._next_beat:
            self._beat()

    def finish(self) -> str:
        """End the boot, so that its last receipt arrives and nothing keeps running. Returns the
        reason.
        """
        self._until = math.inf
        if self._is_over:
            return ASKED
        if not self._boot:
            # It has not come up, so there is no receipt to wait for.
            self._link.ask(Message(kind=courier.STOP))
            return ASKED
        self._shown.step("ending: waiting for the last receipt")
        try:
            if isinstance(self._custodian, Desk) and self._is_resumed:
                self._end_by_order(self._custodian)
        except EndedError as error:
            return error.reason
        except AicertError as error:
            self._shown.note(error.message)
        self._link.ask(Message(kind=courier.STOP))
        try:
            self._awaited(courier.ENDED, ENDS_S)
        except EndedError as error:
            return error.reason
        raise ToolError("the machine did not end in time")

    # --- With a broker.

    def _enrol(self, desk: Desk) -> None:
        shown, wrapped = self._kept.enrolment, self._kept.blob
        if shown is not None and enrolment.parse(shown).terms != self._terms.digest:
            self._shown.note("this machine was enrolled for other terms: enrolling again")
            self._kept.forget()
            shown = wrapped = None
        if wrapped is None:
            self._shown.step("enrolling with the broker")
            if shown is None:
                shown = self._shown_enrolment(desk.challenge())
                self._kept.enrolled(shown, None)
            try:
                wrapped = desk.enrol(shown)
            except RefusedHereError:
                # A refused enrolment does not count: the next try answers a new challenge.
                self._kept.forget()
                raise
            self._kept.enrolled(shown, wrapped)
        self._link.ask(Message(kind=courier.BLOB, data=wrapped))

    def _shown_enrolment(self, nonce: bytes) -> bytes:
        self._link.ask(Message(kind=courier.ENROL, data=nonce))
        return self._awaited(courier.ENROLMENT, ANSWERS_S).data

    def _first_beat(self, desk: Desk) -> None:
        while True:
            try:
                asked = desk.nonce(self._boot)
                break
            except WaitError as error:
                self._shown.step(f"{error.message}; waiting {error.seconds} s")
                self._pause(float(error.seconds))
        if asked.seq:
            resume = Message(kind=courier.RESUME, data=asked.head, numbers=(("seq", asked.seq),))
            self._link.ask(resume)
        self._is_resumed = True
        self._shown.step("asking the broker for a licence")
        self._answered(asked.nonce, desk)

    def _beat(self) -> None:
        self._set_next_beat()
        if isinstance(self._custodian, Files):
            self._renew_by_file(self._custodian)
            self._link.ask(Message(kind=courier.HEARTBEAT, data=secrets.token_bytes(_NONCE_BYTES)))
            return
        try:
            self._answered(self._custodian.nonce(self._boot).nonce, self._custodian)
        except SilentError as error:
            self._shown.note(f"{error.message}; the machine ends when its licence does")
            self._next_beat = time.monotonic() + AGAIN_S

    def _answered(self, nonce: bytes, desk: Desk) -> None:
        """Get a receipt for this nonce and the order for it, and give the order to the machine."""
        self._link.ask(Message(kind=courier.HEARTBEAT, data=nonce))
        self._awaited(courier.RECEIPT, ANSWERS_S)
        order = self._hand_in(desk)
        self._set_next_beat()
        if order:
            self._link.ask(Message(kind=courier.ORDER, data=order))

    def _hand_in(self, desk: Desk) -> bytes:
        """Hand in every unconfirmed receipt, in order. Returns the answer to the last one."""
        order = b""
        for receipt in self._kept.unsent:
            order = desk.receipt(receipt)
            self._kept.sent_one()
            self._shown.receipt(_seq(receipt), True)
        return order

    def _hand_in_old(self, desk: Desk) -> None:
        """Hand in receipts of a boot whose courier could not reach the broker at its end."""
        try:
            self._hand_in(desk)
        except RefusedHereError as error:
            self._shown.note(f"the broker refused a receipt of the last boot: {error.message}")
            self._kept.sent_one()

    def _end_by_order(self, desk: Desk) -> None:
        """End the boot by the broker's own order: then the next boot neither waits nor pays."""
        desk.end()
        self._answered(desk.nonce(self._boot).nonce, desk)
        self._awaited(courier.ENDED, ENDS_S)

    # --- With files.

    def _open_by_file(self, files: Files) -> None:
        self._resume_from_kept()
        given, wrapped = files.folder / "licence", files.folder / "blob"
        if not (given.exists() and wrapped.exists()):
            nonce = files.nonce or secrets.token_bytes(_NONCE_BYTES)
            self._kept.enrolled(self._shown_enrolment(nonce), None)
            path = self._kept.folder / "enrolment.json"
            raise NotIssuedError(
                path,
                f"aicert lease issue {path} --lease BUNDLE --offline --budget 5M --until 30d "
                f"-o {files.folder}    # for the custodian",
            )
        self._given = read_bounded(given, licence.MAX_BYTES, "licence")
        data = read_bounded(wrapped, blob.MAX_BYTES, "blob")
        self._link.ask(Message(kind=courier.BLOB, data=data))
        # From now on there is always a receipt for the final one to follow.
        self._link.ask(Message(kind=courier.HEARTBEAT, data=secrets.token_bytes(_NONCE_BYTES)))
        self._awaited(courier.RECEIPT, ANSWERS_S)
        self._link.ask(Message(kind=courier.LICENCE, data=self._given))
        self._set_next_beat()

    def _resume_from_kept(self) -> None:
        last = last_receipt_of(self._kept.receipts)
        if last is None:
            return
        seq, digest = last
        self._link.ask(Message(kind=courier.RESUME, data=digest, numbers=(("seq", seq),)))

    def _renew_by_file(self, files: Files) -> None:
        """Use a licence file that has replaced the earlier one."""
        try:
            given = read_bounded(files.folder / "licence", licence.MAX_BYTES, "licence")
        except EvidenceError:
            # The file was removed; the licence in use still counts.
            return
        if given != self._given:
            self._given = given
            self._link.ask(Message(kind=courier.LICENCE, data=given))

    # --- The machine's lines.

    def _set_next_beat(self) -> None:
        self._next_beat = time.monotonic() + self._terms.heartbeat_seconds

    def _pause(self, seconds: float) -> None:
        """Wait, and notice meanwhile if the machine ends."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._next(left)

    def _awaited(self, kind: str, seconds: float) -> Message:
        """Return the next message of this kind. A refusal in the meantime is an error."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            heard = self._next(left)
            if heard is not None and heard.kind == kind:
                return heard
            if heard is not None and heard.kind == courier.REFUSED:
                raise RefusedHereError(f"the machine refuses: {_text(heard)}")
        raise ToolError(f"the machine did not answer within {seconds:.0f} s ({kind})")

    def _next(self, seconds: float) -> Message | None:
        """Return the next message, or None if none arrives within so many seconds. Raises
        EndedError once the machine has ended, and OverTimeError once it should have.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise OverTimeError("the machine's time-limit has passed")
        try:
            heard = self._link.heard.get(timeout=min(seconds, left))
        except queue.Empty:
            return None
        if isinstance(heard, AicertError):
            raise heard
        if heard is None:
            self._is_over = True
            raise EndedError("without a word")
        self._take(heard)
        return heard

    def _take(self, heard: Message) -> None:
        if heard.kind == courier.STATE:
            self._is_opened = True
            self._shown.state(heard)
        elif heard.kind == courier.SERVING:
            self._port = heard.number["port"]
        elif heard.kind == courier.REFUSED:
            self._refused = _text(heard)
        elif heard.kind == courier.RECEIPT:
            # A line of another form would spoil the file for every start after this one.
            receipts.parse(heard.data)
            has_broker = isinstance(self._custodian, Desk)
            self._kept.keep_receipt(heard.data, is_for_a_broker=has_broker)
            self._shown.receipt(_seq(heard.data), False)
        elif heard.kind == courier.ENDED:
            self._is_over = True
            self._hand_in_last()
            reason = _text(heard)
            # The refusal was the line just before.
            raise EndedError(f"{reason}: {self._refused}" if reason == REFUSED else reason)

    def _hand_in_last(self) -> None:
        """Hand in what the machine signed at its end; keep it if the broker does not answer."""
        if not isinstance(self._custodian, Desk):
            return
        try:
            self._hand_in(self._custodian)
        except AicertError as error:
            self._shown.note(f"{error.message}; the next start will hand in the last receipts")


def last_receipt_of(lines: list[bytes]) -> tuple[int, bytes] | None:
    """Return number and digest of the last meter receipt, where the next boot continues."""
    for line in reversed(lines):
        given = receipts.parse(line)
        if tpm_policy.counter_name(licence.EPOCH_INDEX) not in given.attest:
            heartbeat = receipts.parse_heartbeat(given.body)
            return heartbeat.seq, bytes.fromhex(receipts.digest(given).hex)
    return None


def _seq(receipt: bytes) -> int:
    """Return a receipt's number; 0 for a kill receipt."""
    try:
        return receipts.parse_heartbeat(receipts.parse(receipt).body).seq
    except AicertError:
        return 0


def _text(heard: Message) -> str:
    return safe(heard.data.decode("ascii", "replace"), courier.MAX_TEXT)
