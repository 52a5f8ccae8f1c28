"""The vectors of what is said about leases: enrolments, receipts, orders and serving machines.

`leases.py` writes them with its own. What they expect is checked in test_leases.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256

from aicert.formats.image_lock import ImageLock
from aicert.lease import enrolment, keys, licence, orders, receipts, serving, terms
from aicert.leasing.serving import Channel
from tests.adversarial import ca_forge, enrolment_forge, serving_forge
from tests.adversarial.enrolment_forge import Scene
from tests.adversarial.serving_forge import Machine
from tests.unit.aicert.lease import forge
from tests.vectors.leases import FIRMWARE, agreed

Row = tuple[str, dict[str, object]]
OTHER = b"\xee" * 32


def enrolments(image: ImageLock) -> Iterator[Row]:
    """An honest machine, and one forgery for each check."""
    rows: Mapping[str, tuple[str, Callable[[], Scene]]] = {
        "enrolment": ("ok", Scene),
        "enrolment-for-another-nonce": ("enrol.nonce", lambda: Scene(nonce=OTHER)),
        "enrolment-of-a-strangers-ak": ("enrol.chain", lambda: Scene(
            chain=(enrolment_forge.ak_certificate(ca_forge.ec_key("stranger")),))),
        "enrolment-with-other-registers": ("enrol.quote", lambda: Scene(
            shown=enrolment_forge.registers(pcr4=OTHER))),
        "enrolment-of-another-driver": ("enrol.firmware", lambda: Scene(
            values=enrolment_forge.registers(pcr2=OTHER))),
        "enrolment-of-another-image": ("enrol.image", lambda: Scene(
            values=enrolment_forge.registers(pcr11=OTHER))),
        "enrolment-after-a-stop": ("enrol.registers", lambda: Scene(
            values=enrolment_forge.registers(pcr8=OTHER))),
        "enrolment-with-a-receipt-key-that-has-a-password": ("enrol.policy-ak", lambda: Scene(
            receipt_public=enrolment_forge.receipt_public(
                enrolment_forge.registers(),
                attributes=receipts.RECEIPT_KEY_ATTRIBUTES | 0x40))),
        "enrolment-with-an-endorsement-storage-key": ("enrol.storage-key", lambda: Scene(
            storage_hierarchy=enrolment_forge.ENDORSEMENT)),
        "enrolment-with-another-counter": ("enrol.counters", lambda: Scene(
            meter={"index": licence.EPOCH_INDEX})),
    }  # fmt: skip
    for name, (verdict, scene) in rows.items():
        text = enrolment.emit(scene().signed()).decode()
        yield (
            name,
            _row("enrolment", verdict, image, {"nonce": enrolment_forge.NONCE, "text": text}),
        )


def machines(image: ImageLock) -> Iterator[Row]:
    """A machine that serves, and one forgery for each check of its own."""
    channel = serving_forge.CHANNEL
    rows: Mapping[str, tuple[str, Callable[[], Machine]]] = {
        "serving": ("ok", Machine),
        "serving-old-evidence": ("serve.fresh", lambda: Machine(nonce=OTHER)),
        "serving-through-a-relay-with-the-stolen-key": ("serve.channel", lambda: Machine(
            bound=Channel(
                nonce=channel.nonce, spki=channel.spki, exporter=OTHER))),
        "serving-other-terms-than-it-states": ("serve.terms", lambda: Machine(
            stated={"lease": "0" * 32})),
        "serving-what-was-not-measured": ("serve.registers", lambda: Machine(
            values={"pcr14": bytes(32)})),
        "serving-after-a-stop": ("serve.registers", lambda: Machine(values={"pcr8": OTHER})),
    }  # fmt: skip
    for name, (verdict, machine) in rows.items():
        given: dict[str, bytes | str] = {
            "nonce": channel.nonce, "spki": channel.spki, "exporter": channel.exporter,
            "text": serving.emit(machine().signed()).decode(),
        }  # fmt: skip
        yield name, _row("serving", verdict, image, given)


def _row(
    kind: str, verdict: str, image: ImageLock, given: Mapping[str, bytes | str]
) -> dict[str, object]:
    """Both kinds are judged by a root, an image and a firmware that are in the vector."""
    inputs: dict[str, object] = {
        "at": enrolment_forge.AT.isoformat(),
        "image": {"pcr4": image.pcrs[4].hex(), "pcr11": image.pcrs[11].hex()},
        "firmware": {str(index): value.hex() for index, value in FIRMWARE.items()},
        "root": ca_forge.pem(enrolment_forge.ROOT.der).decode(),
        "terms": terms.emit(agreed()).decode(),
    }
    inputs |= {k: v.hex() if isinstance(v, bytes) else v for k, v in given.items()}
    expected = {"verdict": "ok"} if verdict == "ok" else {"verdict": "refused", "check": verdict}
    return {"kind": kind, "inputs": inputs, "expected": expected}


def signed_receipts() -> Iterator[Row]:
    """Receipts of one key: one that is right, and one for each check."""
    body = receipts.emit_heartbeat(forge.heartbeat())
    stranger = ca_forge.ec_key("stranger")
    rows = {
        "receipt": ("ok", forge.receipt(body, 812)),
        "receipt-by-another-key": ("receipt.signature", forge.receipt(body, key=stranger)),
        "receipt-that-is-a-quote": ("receipt.form", forge.receipt(body, kind=0x8018)),
        "receipt-about-the-epoch": (
            "receipt.index", forge.receipt(body, index=licence.EPOCH_INDEX),
        ),
        "receipt-over-another-body": ("receipt.body", forge.receipt(body, extra=OTHER)),
    }  # fmt: skip
    for name, (verdict, receipt) in rows.items():
        expected: dict[str, Any] = {"verdict": "refused", "check": verdict}
        if verdict == "ok":
            expected = {"verdict": "ok", "meter": 812}
        inputs = {"receiptKey": forge.public().hex(), "text": receipts.emit(receipt).decode()}
        yield name, {"kind": "receipt", "inputs": inputs, "expected": expected}


def signed_orders(custodian: Any, given: tuple[orders.Order, ...]) -> Iterator[Row]:
    """Orders of each kind, and one that somebody else signed."""
    stranger = ca_forge.ec_key("stranger")
    for order, key in (*((one, custodian) for one in given), (given[0], stranger)):
        data = orders.emit_order(order)
        signature = key.sign(orders.CONTEXT + data, ca_forge.ecdsa(SHA256()))
        is_ours = key is custodian
        inputs = {
            "custodian": keys.spki_of(custodian.public_key()).hex(),
            "text": orders.emit(orders.SignedOrder(order=data, signature=signature)).decode(),
        }
        expected = {"verdict": "ok", "order": order.kind}
        if not is_ours:
            expected = {"verdict": "refused", "check": "order.signature"}
        name = f"order-{order.kind}" if is_ours else "order-of-another-custodian"
        yield name, {"kind": "order", "inputs": inputs, "expected": expected}
