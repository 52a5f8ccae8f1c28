"""A broker with a real ledger file, and machines whose TPM keys the tests hold."""

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from aicert.appraisal.policy import Policy
from aicert.broker import custodian
from aicert.broker.broker import Broker
from aicert.broker.custodian import GrantRequest
from aicert.broker.store import Store
from aicert.lease import custody, enrolment, licence, orders, receipts, terms
from aicert.lease.custody import Secrets
from aicert.lease.orders import Order
from aicert.lease.receipts import Heartbeat, Usage
from aicert.leasing import packing
from tests.adversarial import ca_forge, enrolment_forge
from tests.unit.aicert.lease import forge
from tests.vectors.leases import CUSTODIAN, LEASE, agreed

START = int(ca_forge.AT.timestamp())
TERMS = agreed()
HEARTBEAT = TERMS.heartbeat_seconds
AHEAD = 3 * HEARTBEAT
METER, EPOCH = 10, 3
RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
# No log, error, answer or file of the broker's may contain the key halves or the private number of
# the key.
KEPT = Secrets(
    lease=LEASE, key=CUSTODIAN, tpm_half=hashlib.sha256(b"tpm half").digest(),
    broker_half=hashlib.sha256(b"broker half").digest(),
)  # fmt: skip
SECRETS = (
    KEPT.tpm_half, KEPT.broker_half, CUSTODIAN.private_numbers().private_value.to_bytes(32),
)  # fmt: skip


def keys(folder: Path) -> Secrets:
    return custody.parse(packing.keys_path(folder).read_bytes())


def lay_out(folder: Path) -> Path:
    """Lay out a bundle, as far as a broker reads it, with its keys beside it."""
    bundle = folder / "bot"
    bundle.mkdir()
    (bundle / "terms.toml").write_bytes(terms.emit(TERMS))
    packing.keys_path(bundle).write_bytes(custody.emit(KEPT))
    return bundle


@dataclass
class Bench:
    """The custodian's bundle, ledger and broker for one test; `now` is the clock."""

    folder: Path
    policy: Policy = field(default_factory=enrolment_forge.policy)
    now: int = START
    stores: list[Store] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bundle = lay_out(self.folder)
        self.ledger = self.folder / "ledger.db"
        self.store = self.opened()
        self.broker = self.started()

    def opened(self) -> Store:
        store = Store(self.ledger, create=True)
        self.stores.append(store)
        return store

    def started(self) -> Broker:
        """Return another broker with the same ledger, as after a restart."""
        return Broker(self.store, self.policy, keys, now=lambda: self.now)

    def grant(self, budget: int = 100_000, seconds: int = 86_400, **more: Any) -> str:
        wanted = GrantRequest(**{"borrower": "acme", "budget": budget, "duration": seconds, **more})
        return custodian.grant(self.store, self.bundle, keys, wanted, now=self.now).token

    def enrol(self, token: str, **changes: Any) -> bytes:
        """Enrol an honest machine with these changes, and return the bytes of its enrolment."""
        nonce = self.broker.challenge(token)
        given = {"nonce": nonce, "bound_nonce": nonce, **changes}
        data = enrolment.emit(enrolment_forge.Scene(**given).signed())
        self.broker.enrol(token, data)
        return data

    def machine(self, token: str | None = None, **more: Any) -> "Machine":
        """Return a machine that has enrolled."""
        held = self.grant() if token is None else token
        self.enrol(held)
        return Machine(self, held, **more)

    def close(self) -> None:
        for store in self.stores:
            store.close()


@dataclass
class Machine:
    """A machine in one boot until `reboot`; it signs what a TPM with its keys would."""

    bench: Bench
    token: str
    meter: int = METER
    clock: int = 1000
    resets: int = 7
    seq: int = 0
    head: str = TERMS.digest.hex
    boot: str = "b0" * 32
    usage: Usage = field(default_factory=Usage)
    is_open: bool = False
    half_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    heartbeat: Heartbeat | None = None

    @property
    def half_for(self) -> str:
        return self.half_key.public_key().public_bytes(*RAW).hex()

    def signed(self, nonce: bytes, *, key: Any = enrolment_forge.RECEIPTS, **how: Any) -> bytes:
        """Return the receipt that this machine would sign next, without counting it as signed."""
        usual: dict[str, Any] = {
            "seq": self.seq + 1, "previous": self.head, "nonce": nonce.hex(), "boot": self.boot,
            "usage": self.usage, "half_for": "" if self.is_open else self.half_for,
        }  # fmt: skip
        changes = {name: how.pop(name) for name in list(how) if name in usual or name == "lease"}
        self.heartbeat = forge.heartbeat(**usual | changes)
        body = receipts.emit_heartbeat(self.heartbeat)
        attested: dict[str, Any] = {"clock": self.clock, "reset": self.resets, **how}
        value = attested.pop("value", self.meter)
        return receipts.emit(forge.receipt(body, value, key=key, signer=signer(), **attested))

    def sign(self, nonce: bytes, **how: Any) -> bytes:
        """Sign the next receipt."""
        data = self.signed(nonce, **how)
        self.head = receipts.digest(receipts.parse(data)).hex
        self.seq += 1
        return data

    def ask(self) -> bytes:
        return self.bench.broker.nonce(self.token, self.boot).nonce

    def beat(self, **how: Any) -> Order:
        """Send a heartbeat to the broker, and return the order after the machine accepted it."""
        data = self.sign(self.ask(), **how)
        return self.accepted(self.bench.broker.receipt(self.token, data), data)

    def accepted(self, answer: bytes, data: bytes) -> Order:
        assert self.heartbeat is not None
        order = orders.accept(
            orders.parse(answer), CUSTODIAN.public_key(), receipt=receipts.parse(data),
            heartbeat=self.heartbeat, terms=TERMS.digest, epoch=self.epoch(answer), generation=0,
        )  # fmt: skip
        if order.half:
            half = orders.open_half(order.half, self.half_key, self.heartbeat, TERMS.digest)
            assert half == SECRETS[1]
            self.is_open = True
        return order

    @staticmethod
    def epoch(answer: bytes) -> int:
        return orders.parse_order(orders.parse(answer).order).epoch

    def bounds(self, order: Order) -> licence.Bounds:
        """Return the bounds of the order's licence, which the custodian signed for this machine."""
        given = licence.parse(order.licence)
        licence.verify(given, CUSTODIAN.public_key(), forge.VALUES)
        return given.bounds

    def serve(self, tokens: int) -> None:
        """Pay for these tokens, then serve them."""
        ticks = -(-tokens // TERMS.tick_tokens)
        self.meter += ticks
        before = self.usage
        self.usage = Usage(
            tokens_in=before.tokens_in, tokens_out=before.tokens_out + tokens,
            requests=before.requests + 1, ticks=before.ticks + ticks,
        )  # fmt: skip

    def kill_receipt(self, order: bytes, epoch: int = EPOCH + 1) -> bytes:
        """Return the bytes of the kill receipt with which the machine ends by this order."""
        receipt = forge.receipt(
            order, epoch, index=licence.EPOCH_INDEX, key=enrolment_forge.RECEIPTS,
            signer=signer(), clock=self.clock, reset=self.resets,
        )  # fmt: skip
        return receipts.emit(receipt)

    def obey(self, order: Order, epoch: int = EPOCH + 1) -> None:
        """End by the order, as the image does: sign a last receipt, then the kill receipt."""
        assert self.heartbeat is not None
        last = self.sign(bytes.fromhex(self.heartbeat.nonce))
        assert self.bench.broker.receipt(self.token, last) == b""
        killed = self.kill_receipt(orders.emit_order(order), epoch)
        assert self.bench.broker.receipt(self.token, killed) == b""

    def reboot(self, boot: str = "b1") -> None:
        self.boot, self.usage, self.is_open = boot * 32, Usage(), False
        self.resets += 1
        self.half_key = X25519PrivateKey.generate()


@functools.cache
def signer() -> bytes:
    """Return the qualified name of the machine's receipt key."""
    return enrolment_forge.judged(enrolment_forge.Scene()).receipt_key.qualified_name
