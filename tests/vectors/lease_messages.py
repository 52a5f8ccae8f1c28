"""The test vectors of lease messages: enrolments, receipts, orders and serving machines.

`leases.py` writes them with its own vectors; test_leases checks their expected verdicts.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from cryptography.hazmat.primitives.hashes import SHA256

from aicert.formats.digest import Digest, of_bytes
from aicert.formats.image_lock import ImageLock
from aicert.lease import (
    answer_receipts,
    cbor,
    enrolment,
    keys,
    licence,
    orders,
    receipts,
    serving,
    terms,
)
from aicert.lease.answer_receipts import AnswerReceipt
from aicert.leasing.serving import Channel
from tests.adversarial import ca_forge, enrolment_forge, serving_forge
from tests.adversarial.enrolment_forge import Scene
from tests.adversarial.serving_forge import Machine
from tests.unit.aicert.lease import forge
from tests.vectors.leases import FIRMWARE, agreed

Row = tuple[str, dict[str, object]]
OTHER = b"\xee" * 32


def enrolments(image: ImageLock) -> Iterator[Row]:
    """Return an honest machine's enrolment, and one forgery for each check."""
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
    """Return a serving machine's evidence, and one forgery for each check of its own."""
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
    """Return a vector, with the root, image and firmware under which it is judged."""
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
    """Return receipts of one key: one valid, and one for each check."""
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
    """Return orders of each kind, and one signed by a stranger."""
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


def _token(key: Any, **changes: Any) -> bytes:
    """Return a receipt of the answer below, signed by RFC 6979: the same bytes each time."""
    agreed_terms = agreed()
    usual: dict[str, Any] = {
        "lease": agreed_terms.lease, "terms": agreed_terms.digest, "model": agreed_terms.model,
        "answer": "aa" * 16, "nonce": "0e" * 32, "evidence": of_bytes(b"evidence"),
        "request": of_bytes(QUESTION), "response": of_bytes(ANSWER), "number": 1, "tokens_in": 7,
        "tokens_out": 3, "at": 1_790_000_000, "milliseconds": 250,
    }  # fmt: skip
    claims = answer_receipts._claims(AnswerReceipt(**usual | changes))
    return _cose(key, cbor.dumps(cast("cbor.Value", claims)))


def _cose(key: Any, payload: bytes) -> bytes:
    protected = cbor.dumps({1: -7, 4: keys.spki_of(key.public_key())})
    signed = cbor.dumps(["Signature1", protected, b"", payload])
    r, s = keys.signature_numbers(key.sign(signed, ca_forge.ecdsa(SHA256())))
    return cbor.dumps([protected, {}, payload, r.to_bytes(32) + s.to_bytes(32)], 18)


QUESTION = b'{"messages":[{"content":"one","role":"user"}]}'
ANSWER = b'{"id":"aicert-%s"}' % (b"aa" * 16)


def answers() -> Iterator[Row]:
    """Return receipts of answers: one valid, two swapped, and one for each check."""
    boot, stranger = ca_forge.ec_key("tls of a boot"), ca_forge.ec_key("stranger")
    token = _token(boot)
    # What the same machine signed for the next question on the same connection.
    after = _token(
        boot, answer="bb" * 16, nonce="0f" * 32, number=2, request=of_bytes(b"another question"),
        response=of_bytes(b"another answer"),
    )  # fmt: skip
    payload = cast("bytes", cast("list[Any]", cbor.loads(token, "it", 18))[2])
    more = cbor.dumps({**cast("dict[int, cbor.Value]", cbor.loads(payload, "it")), -70004: 1})
    rows = {
        "answer": ("ok", token),
        "answer-with-the-receipt-of-the-next-one": ("answer.fresh", after),
        "answer-with-the-receipt-of-another-for-its-nonce": (
            "answer.body", _token(boot, response=of_bytes(b"another answer"))),
        "answer-to-another-question": ("answer.body", _token(boot, request=of_bytes(b"another"))),
        "answer-of-another-lease": ("answer.body", _token(boot, lease="0" * 32)),
        "answer-of-another-model": (
            "answer.body", _token(boot, model=Digest("dirHash", "ee" * 32))),
        "answer-on-another-connection": (
            "answer.channel", _token(boot, evidence=of_bytes(b"another"))),
        "answer-receipt-by-another-key": ("answer.signature", _token(stranger)),
        "answer-receipt-with-another-signature": (
            "answer.signature", token[:-1] + bytes((token[-1] ^ 1,))),
        "answer-receipt-with-edited-tokens": (
            "answer.signature", _edited(token, payload, -70003, 2)),
        "answer-receipt-with-a-claim-more": ("malformed", _cose(boot, more)),
        "answer-receipt-with-a-longer-head": (
            "malformed", _cose(boot, payload.replace(b"\x06\x1a", b"\x06\x1b\0\0\0\0", 1))),
        "answer-receipt-with-a-key-twice": ("malformed", _cose(boot, _twice(payload))),
        "answer-receipt-of-indefinite-length": (
            "malformed", _cose(boot, b"\xbf" + payload[1:] + b"\xff")),
        "answer-receipt-with-a-byte-more": ("malformed", token + b"\0"),
        "answer-receipt-without-a-tag": ("malformed", token[1:]),
    }  # fmt: skip
    for name, (verdict, data) in rows.items():
        expected: dict[str, object] = {"verdict": "refused", "check": verdict}
        if verdict == "ok":
            expected = {"verdict": "ok", "tokensIn": 7, "tokensOut": 3, "number": 1}
        elif verdict == "malformed":
            expected = {"verdict": "malformed"}
        inputs = {
            "terms": terms.emit(agreed()).decode(),
            "spki": keys.spki_of(boot.public_key()).hex(),
            "nonce": "0e" * 32,
            "evidence": of_bytes(b"evidence").hex,
            "request": QUESTION.decode(),
            "response": ANSWER.decode(),
            "text": answer_receipts.to_text(data),
        }
        yield name, {"kind": "answer", "inputs": inputs, "expected": expected}


def _edited(token: bytes, payload: bytes, claim: int, value: int) -> bytes:
    claims = cast("dict[int, cbor.Value]", cbor.loads(payload, "it"))
    return token.replace(payload, cbor.dumps({**claims, claim: value}))


def _twice(payload: bytes) -> bytes:
    """Return the map with its first key repeated at the end, and one more entry."""
    key, value = next(iter(cast("dict[int, cbor.Value]", cbor.loads(payload, "it")).items()))
    head = bytes((payload[0] + 1,))
    return head + cbor.dumps(key) + cbor.dumps(value) + payload[1:]
