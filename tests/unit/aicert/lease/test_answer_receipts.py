import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest, of_bytes
from aicert.frozen import replace
from aicert.lease import answer_receipts, cbor, keys
from aicert.lease.answer_receipts import AnswerReceipt
from aicert.lease.checks import RefusedError
from tests.adversarial import ca_forge
from tests.vectors.leases import agreed

KEY = ca_forge.ec_key("tls of a boot")
SPKI = keys.spki_of(KEY.public_key())
STRANGER = ca_forge.ec_key("stranger")


def receipt(**changes: Any) -> AnswerReceipt:
    terms = agreed()
    given: dict[str, Any] = {
        "lease": terms.lease, "terms": terms.digest, "model": terms.model, "answer": "aa" * 16,
        "nonce": "0e" * 32, "evidence": of_bytes(b"evidence"),
        "request": of_bytes(b"request"),
        "response": of_bytes(b"response"), "number": 1, "tokens_in": 7,
        "tokens_out": 3, "at": 1_790_000_000, "milliseconds": 250,
    }  # fmt: skip
    return AnswerReceipt(**given | changes)


TOKEN = answer_receipts.sign(KEY, receipt())


def test_a_receipt_is_signed_and_read_back() -> None:
    signed = answer_receipts.verify(TOKEN)
    assert (signed.receipt, signed.spki) == (receipt(), SPKI)
    assert signed.boot == hashlib.sha256(SPKI).hexdigest()
    assert len(TOKEN) < answer_receipts.MAX_BYTES
    answer_receipts.check_terms(signed.receipt, agreed())
    assert answer_receipts.from_text(answer_receipts.to_text(TOKEN)) == TOKEN


def test_it_is_a_token_that_others_can_read() -> None:
    """The token is a tagged COSE_Sign1, with claims of CWT, of EAT and of the draft's numbers."""
    protected, unprotected, payload, _ = parts()
    assert TOKEN[0] == 0xD2
    assert (cbor.loads(protected, "it"), unprotected) == ({1: -7, 4: SPKI}, {})
    claims: Any = cbor.loads(payload, "it")
    assert (claims[6], claims[265]) == (1_790_000_000, "urn:aicert:answer-receipt:1")
    assert claims[-65539].hex() == agreed().model.hex
    assert claims[-65549] == "dirHash"
    assert claims[-65540] == hashlib.sha256(b"request").digest()


def parts() -> Any:
    return cbor.loads(TOKEN, "it", 18)


def again(payload: Any = None, header: Any = None, key: Any = KEY) -> bytes:
    """Return a token with other octets, signed by `key` (by default the key that it names)."""
    protected, _, old, _ = parts()
    protected = protected if header is None else cbor.dumps(header)
    payload = old if payload is None else payload
    data = cbor.dumps(["Signature1", protected, b"", payload])
    r, s = keys.signature_numbers(keys.sign(key, data))
    return cbor.dumps([protected, {}, payload, r.to_bytes(32) + s.to_bytes(32)], 18)


def claims(**_: Any) -> Any:
    return cbor.loads(parts()[2], "it")


def test_answer_signature_of_somebody_else() -> None:
    with pytest.raises(RefusedError, match=r"^answer\.signature: "):
        answer_receipts.verify(again(key=STRANGER))


@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 255))
def test_no_octet_of_it_can_be_changed(at: int, flip: int) -> None:
    data = bytearray(TOKEN)
    data[at] ^= flip
    with pytest.raises(EvidenceError):
        answer_receipts.verify(bytes(data))


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (b"", "ends early"),
        (b"\xd2" + bytes(2000), "larger than 1024"),
        (TOKEN[1:], "no tag 18"),
        (cbor.dumps([b"", {1: 2}, b"", b""], 18), "without unprotected"),
        (cbor.dumps([b"", {}, b""], 18), "without unprotected"),
        (cbor.dumps({}, 18), "without unprotected"),
        (cbor.dumps(["", {}, b"", bytes(64)], 18), "a signature of P-256"),
        (cbor.dumps([b"", {}, 1, bytes(64)], 18), "a signature of P-256"),
        (cbor.dumps([b"", {}, b"", 1], 18), "a signature of P-256"),
        (cbor.dumps([b"", {}, b"", bytes(63)], 18), "a signature of P-256"),
        (again(header={1: -8, 4: SPKI}), "other headers"),
        (again(header={1: -7}), "other headers"),
        (again(header=[]), "other headers"),
        (again(header={1: -7, 4: 4}), "malformed claim 4"),
        (again(header={1: -7, 4: b"no key"}), "the key of an answer's receipt is not a Subject"),
    ],
)
def test_a_token_has_one_form(token: bytes, words: str) -> None:
    with pytest.raises(EvidenceError, match=words):
        answer_receipts.verify(token)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {**c, -70004: 1}, "other claims"),
        (lambda c: {k: v for k, v in c.items() if k != 10}, "other claims"),
        (lambda c: {**c, 265: "https://cyntrisec.com/spec/air/v1"}, "other claims"),
        (lambda _: [], "other claims"),
        (lambda c: {**c, -65537: b""}, "claim -65537"),
        (lambda c: {**c, 7: b"short"}, "claim 7"),
        (lambda c: {**c, 10: "text"}, "claim 10"),
        (lambda c: {**c, -65545: -1}, "claim -65545"),
        (lambda c: {**c, -70002: 1 << 63}, "claim -70002"),
        (lambda c: {**c, 6: "now"}, "claim 6"),
        (lambda c: {**c, -65549: "md5"}, "not a digest"),
    ],
)
def test_claims_are_those_of_the_profile(change: Any, words: str) -> None:
    with pytest.raises(EvidenceError, match=words):
        answer_receipts.verify(again(payload=cbor.dumps(change(claims()))))


@pytest.mark.parametrize(
    "changes",
    [
        {"lease": "0" * 32},
        {"terms": agreed(tick_tokens=1).digest},
        {"model": Digest("dirHash", "0" * 64)},
    ],
)
def test_answer_body_of_another_lease(changes: Any) -> None:
    with pytest.raises(RefusedError, match=r"^answer\.body"):
        answer_receipts.check_terms(replace(receipt(), **changes), agreed())


@pytest.mark.parametrize("text", ["", "=", "AA", "AA==\n", "AB==", "é"])
def test_a_line_has_one_form(text: str) -> None:
    with pytest.raises(EvidenceError, match="base64"):
        answer_receipts.from_text(text)
