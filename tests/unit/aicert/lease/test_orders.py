import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from aicert.errors import EvidenceError, ToolError
from aicert.frozen import replace
from aicert.lease import licence, orders, receipts
from aicert.lease.checks import RefusedError
from aicert.lease.orders import Order, SignedOrder
from tests.unit.aicert.lease.forge import heartbeat, receipt
from tests.vectors.leases import CUSTODIAN, LEASE, STRANGER, agreed, signed

BOOT_KEY = X25519PrivateKey.from_private_bytes(b"\x21" * 32)
RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
ASKED = heartbeat(half_for=BOOT_KEY.public_key().public_bytes(*RAW).hex())
SIGNED = receipt(receipts.emit_heartbeat(ASKED))
TERMS = agreed().digest
LICENCE = licence.emit(signed())
HALF = b"\x05" * 32


def order(**changes: Any) -> Order:
    given: dict[str, Any] = {
        "kind": orders.GRANT, "lease": LEASE, "terms": TERMS, "boot": ASKED.boot, "epoch": 3,
        "seq": ASKED.seq, "answers": receipts.digest(SIGNED).hex, "generation": 17,
        "licence": LICENCE, "half": orders.seal_half(HALF, ASKED, TERMS),
    }  # fmt: skip
    return Order(**given | changes)


def bare(kind: str, **changes: Any) -> Order:
    return order(kind=kind, licence=b"", half=b"", **changes)


def accepted(given: SignedOrder, **changes: Any) -> Order:
    at: dict[str, Any] = {
        "receipt": SIGNED, "heartbeat": ASKED, "terms": TERMS, "epoch": 3, "generation": 16,
    }  # fmt: skip
    return orders.accept(orders.parse(orders.emit(given)), CUSTODIAN.public_key(), **at | changes)


def test_a_grant_brings_licence_and_half() -> None:
    granted = order()
    assert accepted(orders.sign(CUSTODIAN, granted)) == granted
    assert orders.open_half(granted.half, BOOT_KEY, ASKED, TERMS) == HALF
    # A boot that has its half gets licences alone.
    assert accepted(orders.sign(CUSTODIAN, order(half=b""))).half == b""


@pytest.mark.parametrize("kind", [orders.REVOKE, orders.STOP])
def test_other_orders_bring_nothing(kind: str) -> None:
    assert accepted(orders.sign(CUSTODIAN, bare(kind))).kind == kind
    for changes in ({"licence": LICENCE, "half": b""}, {"licence": b""}):
        with pytest.raises(EvidenceError, match="no other order carries anything"):
            orders.sign(CUSTODIAN, order(kind=kind, **changes))


@pytest.mark.parametrize(
    ("check", "signed_by", "changes", "at"),
    [
        ("order.signature", STRANGER, {}, {}),
        ("order.answer", CUSTODIAN, {"lease": "0" * 32}, {}),
        ("order.answer", CUSTODIAN, {"terms": agreed(tick_tokens=1).digest}, {}),
        # An answer to another boot, an earlier heartbeat, one with the same number, or a restored
        # ledger.
        ("order.answer", CUSTODIAN, {"boot": "b1" * 32}, {}),
        ("order.answer", CUSTODIAN, {"seq": 0}, {}),
        ("order.answer", CUSTODIAN, {"answers": "00" * 32}, {}),
        ("order.answer", CUSTODIAN, {"generation": 16}, {}),
        ("order.answer", CUSTODIAN, {},
         {"heartbeat": replace(ASKED, seq=2)}),
        # An answer to a copy that signed the same body a millisecond later.
        ("order.answer", CUSTODIAN, {}, {"receipt": receipt(SIGNED.body, clock=2)}),
        ("order.answer", CUSTODIAN,
         {"licence": licence.emit(signed(terms_digest=agreed(tick_tokens=1).digest))}, {}),
        ("order.epoch", CUSTODIAN, {"epoch": 2}, {}),
        ("order.epoch", CUSTODIAN, {}, {"epoch": 4}),
    ],
)  # fmt: skip
def test_an_order_that_is_not_the_answer_is_refused_by_its_check(
    check: str, signed_by: Any, changes: dict[str, Any], at: dict[str, Any]
) -> None:
    with pytest.raises(RefusedError) as refused:
        accepted(orders.sign(signed_by, order(**changes)), **at)
    assert refused.value.check == check


def test_order_signature_covers_every_byte() -> None:
    given = orders.sign(CUSTODIAN, order())
    for at in range(0, len(given.order), 7):
        flipped = bytearray(given.order)
        flipped[at] ^= 1
        with pytest.raises(RefusedError, match=r"^order\.signature"):
            accepted(replace(given, order=bytes(flipped)))


def test_a_licences_signature_signs_no_order() -> None:
    read = signed()
    data = licence.signed_bytes(read.lease, read.terms, read.machine, bytes(32))
    assert len(data) == 64
    with pytest.raises(RefusedError, match=r"^order\.signature"):
        accepted(SignedOrder(order=data, signature=read.signature))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"kind":"grant"', b'"kind":"other"', "not one of grant, revoke, stop"),
        (b'"kind":"grant"', b'"kind":"stop"', "no other order carries anything"),
        (b'"kind":"grant"', b'"kind": "grant"', "not in canonical form"),
        (b'"kind":', b'"note":1,"kind":', "unknown key 'note'"),
        (b"aicert licence 1", b"aicert licence 2", "not a licence"),
        (b'"terms":"sha256:', b'"terms":"md5:', "not a digest"),
        (b'"half":"', b'"half":"AAAA', "half is longer|half is too long"),
        (b'"generation":17', b'"generation":true', "expected an integer"),
    ],
)
def test_an_order_has_one_form(old: bytes, new: bytes, message: str) -> None:
    data = orders.emit_order(order())
    assert old in data
    with pytest.raises(EvidenceError, match=message):
        orders.parse_order(data.replace(old, new, 1))


def test_a_half_has_one_length() -> None:
    with pytest.raises(EvidenceError, match="an encrypted half has 80 bytes"):
        orders.sign(CUSTODIAN, order(half=b"short"))
    with pytest.raises(EvidenceError, match="has 32 bytes"):
        orders.seal_half(b"", ASKED, TERMS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"order":"', b'"order": "', "not in canonical form"),
        (b'"order":"', b'"note":1,"order":"', "unknown key 'note'"),
        (b'"order":"', b'"order":"=', "is not base64"),
    ],
)
def test_a_signed_order_has_one_form(old: bytes, new: bytes, message: str) -> None:
    data = orders.emit(orders.sign(CUSTODIAN, order()))
    with pytest.raises(EvidenceError, match=message):
        orders.parse(data.replace(old, new, 1))


def test_a_half_is_for_one_boot_nonce_lease_and_terms() -> None:
    sealed = orders.seal_half(HALF, ASKED, TERMS)
    other_key = X25519PrivateKey.generate()
    for key, asked, of in (
        (other_key, ASKED, TERMS),
        (BOOT_KEY, replace(ASKED, nonce="00" * 32), TERMS),
        (BOOT_KEY, replace(ASKED, boot="00" * 32), TERMS),
        (BOOT_KEY, replace(ASKED, lease="0" * 32), TERMS),
        (BOOT_KEY, ASKED, agreed(tick_tokens=1).digest),
    ):
        with pytest.raises(RefusedError, match=r"^order\.answer: the half is encrypted for some"):
            orders.open_half(sealed, key, asked, of)
    for broken in (sealed[:-1], b"", bytes(80)):
        with pytest.raises(RefusedError, match=r"^order\.answer"):
            orders.open_half(broken, BOOT_KEY, ASKED, TERMS)


def test_nobody_is_given_a_half_who_did_not_ask_with_a_key() -> None:
    with pytest.raises(EvidenceError, match="does not ask for half of the key"):
        orders.seal_half(HALF, heartbeat(), TERMS)
    with pytest.raises(EvidenceError, match="nothing can be encrypted to"):
        orders.seal_half(HALF, heartbeat(half_for="00" * 32), TERMS)


def test_an_old_library_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.hpke", None)
    monkeypatch.delattr("cryptography.hazmat.primitives.hpke", raising=False)
    with pytest.raises(ToolError, match="has no HPKE"):
        orders.seal_half(HALF, ASKED, TERMS)
