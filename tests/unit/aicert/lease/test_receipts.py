import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.frozen import replace
from aicert.lease import licence, receipts
from aicert.lease.receipts import Receipt, Usage
from tests.adversarial import ca_forge, tpm_forge
from tests.unit.aicert.lease.forge import KEY, SIGNER, VALUES, heartbeat, public, receipt

USAGE = Usage(tokens_in=40211, tokens_out=9310, tokens_refused=3, requests=388, ticks=50)
BODY = receipts.emit_heartbeat(heartbeat(usage=USAGE))


def test_a_heartbeat_is_read_back() -> None:
    assert receipts.parse_heartbeat(BODY) == heartbeat(usage=USAGE)


def test_a_receipt_is_read_back_and_verified() -> None:
    original = receipt(BODY, 812, clock=5, reset=3)
    line = receipts.emit(original)
    assert receipts.parse(line) == original
    # Two copies of a machine sign different receipts, even for the same body.
    again = receipt(BODY, 812, clock=6, reset=3)
    assert receipts.digest(original) != receipts.digest(again)
    reading = receipts.verify(original, KEY, licence.METER_INDEX)
    assert (reading.value, reading.clock.clock, reading.clock.reset_count) == (812, 5, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"seq":1', b'"seq":1.0', "expected an integer"),
        (b'"seq":1', b'"seq":-1', "out of range"),
        (b'"seq":1', b'"seq":1,"note":1', "unknown key 'note'"),
        (b'"refused":3', b'"refused":3,"note":1', "unknown key 'note'"),
        (b'"seq":1', b'"seq": 1', "not in canonical form"),
        (b'"lease":"7', b'"lease":"G', "lease is not 32 hexadecimal digits"),
        (b'"boot":"b0', b'"boot":"B0', "boot is not 64 hexadecimal digits"),
        (b'"nonce":"0f', b'"nonce":"', "nonce is not 64 hexadecimal digits"),
        (b'"tokens":', b'"tokenz":', "tokens is missing"),
        (b"{", b"[", "is not JSON"),
    ],
)
def test_anything_but_the_one_form_is_refused(old: bytes, new: bytes, message: str) -> None:
    assert old in BODY
    with pytest.raises(EvidenceError, match=message):
        receipts.parse_heartbeat(BODY.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"body":"', b'"body": "', "not in canonical form"),
        (b'"body":"', b'"note":1,"body":"', "unknown key 'note'"),
        (b'"body":"', b'"body":"=', "body is not base64"),
        (b'"attest":"', b'"attest":"' + b"AAAA" * 200, "attest is longer than"),
    ],
)
def test_a_receipts_line_has_one_form(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        receipts.parse(receipts.emit(receipt(BODY)).replace(old, new, 1))


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        (receipt(BODY, key=ca_forge.ec_key("the borrower's own")), "receipt.signature"),
        (replace(receipt(BODY), signature=b"\0"), "receipt.signature"),
        (replace(receipt(BODY), signature=receipt(BODY, 11).signature), "receipt.signature"),
        (receipt(BODY, signer=b"\x00\x0b" + bytes(32)), "receipt.signature"),
        (receipt(BODY, kind=tpm_forge.CERTIFY), "receipt.form"),
        (receipt(BODY, trailing=b"\0"), "receipt.form"),
        (receipt(BODY, magic=0), "receipt.form"),
        (receipt(BODY, index=licence.EPOCH_INDEX), "receipt.index"),
        (replace(receipt(BODY), body=BODY + b" "), "receipt.body"),
        (receipt(BODY, extra=b""), "receipt.body"),
        (receipt(BODY, restart=1), "receipt.boot"),
    ],
)
def test_an_edited_receipt_is_refused_by_its_check(changed: Receipt, check: str) -> None:
    with pytest.raises(EvidenceError, match=f"^{check}: "):
        receipts.verify(changed, KEY, licence.METER_INDEX)


@given(st.data())
def test_no_byte_of_a_receipt_can_be_changed(data: st.DataObject) -> None:
    original = receipt(BODY)
    part = data.draw(st.sampled_from(("body", "attest", "signature")))
    old = getattr(original, part)
    at = data.draw(st.integers(0, len(old) - 1))
    new = data.draw(st.integers(0, 255).filter(lambda value: value != old[at]))
    changed = replace(original, **{part: old[:at] + bytes([new]) + old[at + 1 :]})
    with pytest.raises(EvidenceError, match=r"^receipt\."):
        receipts.verify(changed, KEY, licence.METER_INDEX)


@pytest.mark.parametrize("at", range(4))
def test_a_scheme_or_hash_that_is_not_the_keys_is_refused(at: int) -> None:
    original = receipt(BODY)
    old = original.signature
    changed = replace(original, signature=old[:at] + bytes([old[at] ^ 1]) + old[at + 1 :])
    with pytest.raises(EvidenceError, match=r"^receipt\.signature: the TPMT_SIGNATURE"):
        receipts.verify(changed, KEY, licence.METER_INDEX)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # With a password, duplicable, unrestricted, other registers, another scheme or curve.
        ({"attributes": receipts.RECEIPT_KEY_ATTRIBUTES | 0x40}, "attributes 0x00050472"),
        ({"attributes": receipts.RECEIPT_KEY_ATTRIBUTES & ~0x2}, "attributes"),
        ({"attributes": receipts.RECEIPT_KEY_ATTRIBUTES & ~0x10000}, "attributes"),
        ({"policy": licence.receipt_policy({**VALUES, 4: bytes(32)})}, "not bound to this image"),
        ({"policy": b""}, "not bound to this image"),
        ({"scheme": struct.pack(">H", tpm_forge.NULL)}, "scheme is not ECDSA"),
        ({"name_hash": tpm_forge.SHA384}, "not a P-256 key"),
    ],
)
def test_enrol_policy_ak_of_another_kind_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        receipts.check_receipt_key(public(**changes), VALUES)


def test_enrol_policy_ak_of_another_curve_is_refused() -> None:
    other = tpm_forge.ecc_public(ca_forge.ec_key("k", "P-384").public_key())
    with pytest.raises(EvidenceError, match="not a P-256 key"):
        receipts.check_receipt_key(other, VALUES)


def test_the_key_that_signs_is_the_one_of_the_public_area() -> None:
    assert KEY.key.public_numbers() == SIGNER.public_key().public_numbers()
    assert KEY.name == tpm_forge.name_of(public())
