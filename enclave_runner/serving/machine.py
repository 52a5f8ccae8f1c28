"""One boot of a serving machine, from the courier's first line to the end.

    started ── enrol, resume, heartbeat ── opened, loading ── serving ── ended

The courier is untrusted: what matters is signed by the custodian, and checked here or by the TPM. A
lease is opened once. From then on its deadline is watched and orders are obeyed, whether the model
is loaded or not. Whatever ends serving (an order, the deadline, a count that cannot be right, an
engine that exited) ends it for this boot. Connections, engine and weights are gone before the end
is signed and measured, and nothing is signed after that.

The caller supplies the courier's sockets and the function that starts the engine.
"""

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.formats.digest import Digest
from aicert.frozen import dataclass
from aicert.lease import blob as blobs
from aicert.lease import bundle, courier, enrolment, licence, orders, receipts, serving
from aicert.lease.blob import Blob
from aicert.lease.bundle import ContentKey
from aicert.lease.checks import RefusedError
from aicert.lease.courier import Message
from aicert.lease.licence import Licence
from aicert.lease.orders import Order, SignedOrder
from aicert.lease.receipts import Heartbeat, Receipt, Usage
from aicert.lease.terms import SPLIT
from enclave_runner.serving import load
from enclave_runner.serving.gateway import Connection
from enclave_runner.serving.lease_tpm import LeaseTpm
from enclave_runner.serving.load import Offered
from enclave_runner.serving.opened import Boot, Listening, Opened, Started
from enclave_runner.serving.tls import Identity

# Reasons for the end of a boot, besides the order kinds that end it and those in `opened`. The
# reason is measured, so it is one plain word.
ASKED: Final = "asked"
REFUSED: Final = "refused"
# How long the loader may take to notice the end: the time for a chunk, or for checking the files
# that it decrypted, on a slow machine.
_LOADING_ENDS_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the machine provides. `memory` is an empty folder on a memory file system for weights,
    `copies` an empty one for cleaned files, and `start` runs the engine on these files. `admit`
    lets clients in where `address` is listened on already, as the courier comes by it.
    """

    memory: Path
    copies: Path
    address: tuple[str, int]
    model_types: frozenset[str]
    start: Callable[[Mapping[str, Path]], Started]
    admit: Callable[[Callable[[Connection], None]], Listening] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latest:
    """The latest heartbeat, which an order must answer, and its receipt."""

    receipt: Receipt
    heartbeat: Heartbeat


class Machine:
    """One boot of a serving machine.

    `tell` sends a line to the courier; several threads call it, so it must not block on the
    courier.
    """

    def __init__(
        self,
        tpm: LeaseTpm,
        offered: Offered,
        place: Place,
        identity: Identity,
        tell: Callable[[Message], None],
        *,
        image: Digest | None = None,
        loading: Callable[[Callable[[], None]], None] = lambda load: load(),
    ) -> None:
        """Prepare a boot.

        `loading`: runs the function that loads the model, in a thread of its own if lines from the
        courier must be handled meanwhile.
        """
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._boot = Boot(
            tpm=tpm,
            offered=offered,
            identity=identity,
            image=image,
            address=place.address,
            end=self.end,
            admit=place.admit,
        )
        self._place = place
        self._tell = tell
        self._loading = loading
        self._loader: threading.Thread | None = None
        self._loaded = threading.Event()
        self._loaded.set()
        self._half_key = X25519PrivateKey.generate()
        self._blob: Blob | None = None
        self._seq, self._previous = 0, offered.terms.digest.hex
        self._latest: _Latest | None = None
        self._generation = 0
        self._opened: Opened | None = None
        # Receipts are signed one at a time.
        self._speaking = threading.RLock()
        self._ending = threading.Lock()
        self._is_ended = False
        self.over = threading.Event()
        """Set when nothing runs any more."""
        self.reason = ""
        """The reason for the end; empty before it."""

    # --- The courier's requests.

    def handle(self, line: bytes) -> None:
        """Carry out one line from the courier, and report the result.

        A refused line is reported and changes nothing.
        """
        try:
            message = courier.parse(line, courier.ASKS)
            self._commands()[message.kind](message)
        except (AicertError, OSError) as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        text = str(error).encode("ascii", "replace")[: courier.MAX_TEXT]
        self._tell(Message(kind=courier.REFUSED, data=text))

    def _commands(self) -> Mapping[str, Callable[[Message], None]]:
        return {
            courier.ENROL: self._enrol,
            courier.RESUME: self._resume,
            courier.HEARTBEAT: lambda message: self._heartbeat(message.data),
            courier.BLOB: self._take_blob,
            courier.LICENCE: self._take_licence,
            courier.ORDER: self._take_order,
            courier.STOP: lambda _: self.end(ASKED),
        }

    def ready(self) -> None:
        """Report that the machine is up, with the digest of its TLS key."""
        self._tell(Message(kind=courier.READY, data=bytes.fromhex(self._boot.identity.boot)))

    def _enrol(self, message: Message) -> None:
        shown = self._boot.tpm.enrol(self._boot.offered.terms, message.data)
        self._tell(Message(kind=courier.ENROLMENT, data=enrolment.emit(shown)))

    def _resume(self, message: Message) -> None:
        """Continue the receipt chain of earlier boots.

        If the courier lies about it, no ledger accepts the chain.
        """
        with self._speaking:
            if self._latest is not None:
                raise EvidenceError("receipts of this boot were signed already")
            self._seq, self._previous = message.number["seq"], message.data.hex()

    def _heartbeat(self, nonce: bytes) -> None:
        with self._speaking:
            if self._is_ended:
                raise EvidenceError("the machine has ended")
            self._sign(nonce)

    def _sign(self, nonce: bytes) -> None:
        """Sign the next receipt for the meter."""
        # A boot that has ended opens nothing any more, and may not ask twice.
        may_open = self._opened is None and not self._is_ended
        needs_half = self._boot.offered.terms.key == SPLIT and may_open
        heartbeat = Heartbeat(
            lease=self._boot.offered.terms.lease,
            seq=self._seq + 1,
            previous=self._previous,
            nonce=nonce.hex(),
            boot=self._boot.identity.boot,
            usage=self.usage,
            half_for=_raw(self._half_key) if needs_half else "",
        )
        body = receipts.emit_heartbeat(heartbeat)
        signed = self._boot.tpm.receipt(body)
        self._seq, self._previous = heartbeat.seq, receipts.digest(signed).hex
        self._latest = _Latest(receipt=signed, heartbeat=heartbeat)
        self._tell(Message(kind=courier.RECEIPT, data=receipts.emit(signed)))

    @property
    def usage(self) -> Usage:
        """The usage that this boot has served."""
        return Usage() if self._opened is None else self._opened.usage

    def _take_blob(self, message: Message) -> None:
        self._blob = blobs.parse(message.data)

    def _take_licence(self, message: Message) -> None:
        """Take a licence without an order. It opens or renews a lease that needs no broker."""
        if self._boot.offered.terms.key == SPLIT:
            # A licence alone could be older than the broker's latest order.
            raise RefusedError("order.answer", "a licence of this lease comes with an order")
        given = self._licence(message.data)
        if self._opened is not None:
            self._renew(self._opened, given)
        else:
            self._open(given, bundle.NO_BROKER)

    def _licence(self, data: bytes) -> Licence:
        """Parse a licence for this lease. The TPM or `Opened` decides whether it holds here."""
        given, terms = licence.parse(data), self._boot.offered.terms
        if (given.lease, given.terms) != (terms.lease, terms.digest):
            raise RefusedError("terms.digest", "the licence is for a different lease or terms")
        return given

    def _renew(self, opened: Opened, given: Licence) -> None:
        opened.renew(given)
        self._tell(opened.state())

    def _take_order(self, message: Message) -> None:
        signed = orders.parse(message.data)
        with self._speaking:
            order, heartbeat = self._accepted(signed)
        if order.kind != orders.GRANT:
            self.end(order.kind, signed)
            return
        given = self._licence(order.licence)
        if self._opened is not None:
            self._renew(self._opened, given)
        elif not order.half:
            raise RefusedError("order.answer", "the grant has no half of the key")
        else:
            digest = self._boot.offered.terms.digest
            half = orders.open_half(order.half, self._half_key, heartbeat, digest)
            self._open(given, half)

    def _accepted(self, signed: SignedOrder) -> tuple[Order, Heartbeat]:
        latest = self._latest
        if latest is None:
            raise RefusedError("order.answer", "it does not answer a heartbeat of this machine")
        order = orders.accept(
            signed,
            self._boot.offered.custodian,
            receipt=latest.receipt,
            heartbeat=latest.heartbeat,
            terms=self._boot.offered.terms.digest,
            epoch=self._boot.tpm.epoch(),
            generation=self._generation,
        )
        self._generation = order.generation
        return order, latest.heartbeat

    # --- Opening the lease, and what follows.

    def _open(self, given: Licence, broker_half: bytes) -> None:
        boot = self._boot
        if self._blob is None:
            raise EvidenceError("the courier has not sent the blob yet")
        before = boot.tpm.meter()
        half = boot.tpm.open(self._blob, given, boot.offered.custodian)
        key = ContentKey(half, broker_half, boot.offered.header_bytes)
        try:
            opened = Opened(boot, given, before)
            with self._ending:
                if self._is_ended:
                    raise ToolError("the machine was ended while it opened the lease")
                self._opened = opened
                self._loaded.clear()
            self._tell(opened.state())
            opened.watch(self._tell)
            self._loading(lambda: self._load(opened, key))
        except BaseException:
            # The key was in memory: whatever went wrong, this boot opens nothing more.
            self._loaded.set()
            self.end(REFUSED)
            raise

    def _load(self, opened: Opened, key: ContentKey) -> None:
        """Load the model and let clients in, or end the boot."""
        self._loader = threading.current_thread()
        try:
            self._serve(opened, key)
        except (AicertError, OSError) as error:
            # OSError: for example, no room for the model.
            if not self._is_ended:
                self._refuse(error)
            self._end_loading()
        except BaseException:
            self._end_loading()
            raise
        finally:
            self._loaded.set()

    def _end_loading(self) -> None:
        self.end(REFUSED)
        # If another thread ended the boot meanwhile, it may have removed files before this one
        # wrote its last ones.
        self._remove()

    def _serve(self, opened: Opened, key: ContentKey) -> None:
        boot, place = self._boot, self._place
        load.decrypt(boot.offered, key, place.memory, opened.check)
        files = load.inert(boot.offered, place.memory, place.copies, model_types=place.model_types)
        for event in serving.events(boot.offered.terms_bytes, boot.offered.terms.model):
            boot.tpm.extend(licence.SERVING_PCR, event)
        opened.start(place.start, files, self._tell)

    # --- The end.

    def end(self, reason: str, order: SignedOrder | None = None) -> None:
        """End serving for this boot. Further calls do nothing.

        `order`: the order that was obeyed, if there was one.
        """
        with self._ending:
            if self._is_ended:
                return
            self._is_ended = True
            self.reason = reason
        failed: list[str] = []
        try:
            for step in (
                self._stop,
                self._await_loading,
                self._remove,
                lambda: self._sign_the_end(order),
                lambda: self._boot.tpm.extend(licence.STOPPED_PCR, serving.stopped_event(reason)),
            ):
                # If one step fails, the others still run.
                failed += _failure(step)
        finally:
            text = "".join([reason, *failed]).encode("ascii", "replace")
            self._tell(Message(kind=courier.ENDED, data=text[: courier.MAX_TEXT]))
            self.over.set()

    def _stop(self) -> None:
        """Stop engine and connections: nothing is sent to clients from here on."""
        if self._opened is not None:
            self._opened.stop()

    def _await_loading(self) -> None:
        """Wait until the loader, which may still write weights, has seen the end and stopped."""
        if threading.current_thread() is self._loader:
            return
        if not self._loaded.wait(_LOADING_ENDS_S):
            raise ToolError("what loads the model does not end")

    def _remove(self) -> None:
        """Delete the weights."""
        for folder in (self._place.memory, self._place.copies):
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def _sign_the_end(self, order: SignedOrder | None) -> None:
        if self._opened is not None:
            self._opened.count_the_rest()
        with self._speaking:
            if self._latest is not None:
                # Sign what was served since the last receipt.
                self._sign(bytes.fromhex(self._latest.heartbeat.nonce))
            if order is not None:
                self._boot.tpm.end_epoch()
                killed = self._boot.tpm.receipt(order.order, licence.EPOCH_INDEX)
                self._tell(Message(kind=courier.RECEIPT, data=receipts.emit(killed)))


def _failure(step: Callable[[], None]) -> list[str]:
    """Run a step, and return its error as text for the ENDED line, if it fails."""
    try:
        step()
    except (AicertError, OSError) as error:
        return [f": {error}"]
    return []


def _raw(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public: bytes = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return public.hex()
