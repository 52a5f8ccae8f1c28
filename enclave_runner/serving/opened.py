"""An open lease: engine, gateway and port of one boot, under the latest licence.

The TPM decided about the licence that opened the lease. Only this module decides about renewals, so
it checks every term of them. Each second it also checks whether the lease has run out or the engine
has exited.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from aicert.errors import ToolError
from aicert.formats.digest import Digest
from aicert.frozen import dataclass
from aicert.lease import courier, serving
from aicert.lease.checks import RefusedError
from aicert.lease.courier import Message
from aicert.lease.licence import Licence
from aicert.lease.receipts import Usage
from aicert.lease.serving import Statement
from enclave_runner.serving import load
from enclave_runner.serving.engine import Engine
from enclave_runner.serving.gateway import Connection, Gateway
from enclave_runner.serving.lease_tpm import LeaseTpm, Served
from enclave_runner.serving.listener import Listener
from enclave_runner.serving.load import Offered
from enclave_runner.serving.meter import Meter
from enclave_runner.serving.signer import Signer
from enclave_runner.serving.tls import Identity, server_context
from enclave_runner.serving.watch import Deadline

# Reasons why a boot ends by itself.
DEADLINE: Final = "deadline"
ENGINE: Final = "engine"
BROKEN: Final = "tpm"
WATCH_S: Final = 1.0
# The most that a chat template adds besides messages; text per message is counted with each one.
TEMPLATE_TOKENS: Final = 4096


class Listening(Protocol):
    """A port at which clients are served: a `Listener`, or an entrance's part for them."""

    port: int

    def stop(self) -> None:
        """Close it, and every open connection at once."""


class Started(Protocol):
    """A running engine: `running.Running`, or a test's own."""

    @property
    def model(self) -> str:
        """The engine's own name for the model."""

    @property
    def engine(self) -> Engine:
        """The client for its socket."""

    def await_ready(self) -> None:
        """Wait until the engine answers. Raises ToolError if it does not."""

    def is_alive(self) -> bool:
        """Return whether the engine still runs."""

    def kill(self) -> None:
        """End the engine at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What does not change during a boot. `image` is the digest of the image's lock, or None if
    nothing measures the boot. `end` ends serving for a reason. `admit` lets clients in, where the
    port is open already; otherwise clients have `address`.
    """

    tpm: LeaseTpm
    offered: Offered
    identity: Identity
    image: Digest | None
    address: tuple[str, int]
    end: Callable[[str], None]
    admit: Callable[[Callable[[Connection], None]], Listening] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """The licence in force, and its end by both clocks."""

    licence: Licence
    deadline: Deadline


class Opened:
    """An open lease; its deadline is watched from `watch` on, and it serves from `start` to `stop`.

    `given`: the licence that opened the lease. `before`: the meter at that time.
    """

    def __init__(self, boot: Boot, given: Licence, before: int) -> None:
        self._boot = boot
        self._before = before
        self._bound = _Bound(licence=given, deadline=self._deadline_of(given))
        self._meter = Meter(
            boot.tpm.tick,
            tick_tokens=boot.offered.terms.tick_tokens,
            budget=given.bounds.budget - before,
        )
        self._engine: Started | None = None
        self._listener: Listening | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    def start(
        self,
        run: Callable[[Mapping[str, Path]], Started],
        files: Mapping[str, Path],
        tell: Callable[[Message], None],
    ) -> None:
        """Run the engine on these files and accept clients.

        Raises ToolError if the lease was stopped meanwhile.
        """
        boot = self._boot
        with self._unless_over():
            engine = self._engine = run(files)
        engine.await_ready()
        gateway = Gateway(
            terms=boot.offered.terms,
            engine=engine.engine,
            engine_model=engine.model,
            template_tokens=TEMPLATE_TOKENS,
            context=load.context_of(files),
            meter=self._meter,
            attest=self._attest,
            signer=Signer(boot.identity, boot.offered.terms),
            distrust=boot.end,
        )
        with self._unless_over():
            listener = self._listener = self._listening(gateway.serve)
        tell(Message(kind=courier.SERVING, numbers=(("port", listener.port),)))

    def _listening(self, serve: Callable[[Connection], None]) -> Listening:
        boot = self._boot
        if boot.admit is not None:
            return boot.admit(serve)
        listener = Listener(boot.address, server_context(boot.identity), serve)
        listener.start()
        return listener

    def watch(self, tell: Callable[[Message], None]) -> None:
        """Start two threads that check each second whether the lease is over.

        One asks the TPM. The other only reads the kernel's clock: a TPM that its owner stops, or
        that many clients ask for evidence, must not hold up the deadline.
        """
        threading.Thread(target=self._watch, args=(tell,), daemon=True).start()
        threading.Thread(target=self._watch_kernel, daemon=True).start()

    def check(self) -> None:
        """Raise ToolError if the lease is over."""
        if self._over.is_set():
            raise ToolError("the machine was ended while it loaded the model")

    @contextmanager
    def _unless_over(self) -> Iterator[None]:
        """Guard a step: either `stop` sees what it starts, or the step does not start."""
        with self._lock:
            self.check()
            yield

    def stop(self) -> None:
        """End listener and engine: nothing is sent to clients from here on."""
        with self._lock:
            self._over.set()
        if self._listener is not None:
            self._listener.stop()
        if self._engine is not None:
            self._engine.kill()

    def count_the_rest(self) -> None:
        """Count every answer that `stop` cut off as whole, for the last receipt: part of each was
        served.
        """
        self._meter.close()

    @property
    def usage(self) -> Usage:
        """The usage that was served."""
        return self._meter.usage

    def renew(self, given: Licence) -> None:
        """Continue under a new licence. Raises RefusedError if it does not hold here and now."""
        boot, bounds = self._boot, given.bounds
        boot.tpm.verified(given, boot.offered.custodian)
        clock = boot.tpm.clock()
        if bounds.epoch != boot.tpm.epoch():
            raise RefusedError("order.epoch", f"the licence is for epoch {bounds.epoch}")
        if clock.resets > bounds.resets or clock.restarts > bounds.restarts:
            raise RefusedError("licence.tpm", "the licence allows fewer boots than there have been")
        self._meter.renew(bounds.budget - self._before)
        self._bound = _Bound(licence=given, deadline=self._deadline_of(given))

    def state(self) -> Message:
        """Return the figures for the person who runs the machine."""
        return self._state(self._seconds_left())

    def _state(self, left: float) -> Message:
        usage = self.usage
        return Message(
            kind=courier.STATE,
            numbers=(
                ("budget", self._bound.licence.bounds.budget),
                ("meter", self._before + usage.ticks),
                ("refused", usage.tokens_refused),
                ("requests", usage.requests),
                ("seconds", max(0, int(left))),
                ("tokensIn", usage.tokens_in),
                ("tokensOut", usage.tokens_out),
            ),
        )

    def _deadline_of(self, given: Licence) -> Deadline:
        kernel = _kernel_clock()
        tpm = self._boot.tpm.clock().milliseconds
        return Deadline(licensed=given.bounds.clock, tpm=tpm, kernel=kernel)

    def _seconds_left(self) -> float:
        clock = self._boot.tpm.clock().milliseconds
        return self._bound.deadline.left(tpm=clock, kernel=_kernel_clock())

    def _watch(self, tell: Callable[[Message], None]) -> None:
        reason, left = BROKEN, WATCH_S
        try:
            # The last wait ends with the licence.
            while not self._over.wait(min(WATCH_S, left)):
                left = self._seconds_left()
                if left <= 0:
                    reason = DEADLINE
                    return
                if self._listener is not None and not self._is_alive():
                    reason = ENGINE
                    return
                tell(self._state(left))
        except ToolError:
            # The TPM no longer tells the time.
            return
        finally:
            # Whatever happens here, nothing may be served unwatched.
            self._boot.end(reason)

    def _watch_kernel(self) -> None:
        left = WATCH_S
        while not self._over.wait(min(WATCH_S, left)):
            left = self._bound.deadline.left_by_kernel(_kernel_clock())
            if left <= 0:
                self._boot.end(DEADLINE)
                return

    def _is_alive(self) -> bool:
        return self._engine is not None and self._engine.is_alive()

    def _attest(self, nonce: bytes, exporter: bytes) -> bytes:
        boot, terms = self._boot, self._boot.offered.terms
        statement = Statement(
            lease=terms.lease,
            terms=terms.digest,
            model=terms.model,
            certificate=terms.certificate,
            image=boot.image,
            receipt_key=boot.tpm.receipt_key_name.hex(),
            boots=max(1, boot.tpm.clock().resets),
        )
        served = Served(terms=boot.offered.terms_bytes, statement=serving.emit_statement(statement))
        evidence = boot.tpm.evidence(nonce, boot.identity.spki, exporter, served)
        return serving.emit(evidence)


def _kernel_clock() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
