from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.formats.measurement import ZERO
from aicert.frozen import replace
from aicert.lease import licence
from tests.vectors.leases import (
    BOUNDS,
    CUSTODIAN,
    FIRMWARE,
    IMAGE,
    LEASE,
    MACHINE,
    STRANGER,
    agreed,
    signed,
)

PUBLIC = CUSTODIAN.public_key()
VALUES = licence.registers(FIRMWARE, IMAGE)


def issued(**changes: Any) -> licence.Licence:
    given: dict[str, Any] = {
        "lease": LEASE, "terms": agreed().digest, "machine": MACHINE, "image": IMAGE,
        "firmware": FIRMWARE, "bounds": BOUNDS,
    }  # fmt: skip
    return licence.issue(CUSTODIAN, **given | changes)


def test_what_is_issued_is_read_back_and_verified() -> None:
    granted = issued()
    read = licence.parse(licence.emit(granted))
    assert read == granted
    assert licence.verify(read, PUBLIC, VALUES) == licence.policy_digest(BOUNDS, VALUES)


def test_a_licence_is_small() -> None:
    assert 32 + len(issued().signature) <= 104


def test_a_licence_for_a_machine_that_measures_nothing() -> None:
    zero = dict.fromkeys(licence.FIRMWARE_PCRS, ZERO)
    granted = issued(image=None, firmware=zero)
    assert b"image none\n" in licence.emit(granted)
    licence.verify(granted, PUBLIC, dict.fromkeys(licence.LICENCE_PCRS, ZERO))
    with pytest.raises(EvidenceError, match="not signed by this custodian"):
        licence.verify(granted, PUBLIC, VALUES)


@pytest.mark.parametrize(
    "changes",
    [
        {"bounds": replace(BOUNDS, budget=813)},
        {"bounds": replace(BOUNDS, epoch=4)},
        {"bounds": replace(BOUNDS, clock=BOUNDS.clock + 1)},
        {"bounds": replace(BOUNDS, resets=5)},
        {"bounds": replace(BOUNDS, restarts=1)},
        {"lease": "0" * 32},
        {"terms": agreed(tick_tokens=1).digest},
        {"machine": b"\x00\x0b" + bytes(32)},
    ],
)
def test_licence_tpm_refuses_an_edited_licence(changes: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="not signed by this custodian"):
        licence.verify(replace(issued(), **changes), PUBLIC, VALUES)


@pytest.mark.parametrize("index", licence.LICENCE_PCRS)
def test_licence_tpm_refuses_other_registers(index: int) -> None:
    with pytest.raises(EvidenceError, match="not signed by this custodian"):
        licence.verify(issued(), PUBLIC, {**VALUES, index: b"\xee" * 32})


def test_licence_tpm_refuses_another_custodian() -> None:
    with pytest.raises(EvidenceError, match="not signed by this custodian"):
        licence.verify(signed(key=STRANGER), PUBLIC, VALUES)


def test_the_registers_of_an_image() -> None:
    assert set(VALUES) == set(licence.LICENCE_PCRS)
    assert {i: VALUES[i] for i in licence.FIRMWARE_PCRS} == FIRMWARE
    assert {i: VALUES[i] for i in licence.IMAGE_PCRS} == {i: IMAGE.pcrs[i] for i in (4, 11)}
    assert all(VALUES[index] == ZERO for index in licence.ZERO_PCRS)


def test_the_key_of_receipts_signs_while_the_machine_serves_and_not_after_a_stop() -> None:
    policy = licence.receipt_policy(VALUES)
    assert licence.receipt_policy({**VALUES, licence.SERVING_PCR: b"\xee" * 32}) == policy
    assert licence.receipt_policy({**VALUES, licence.STOPPED_PCR: b"\xee" * 32}) != policy


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"aicert licence 1", b"aicert licence 2", "not a licence in canonical form"),
        (b"\n", b"\r\n", "not a licence in canonical form"),
        (b"budget 812", b"budget 0812", "not a licence in canonical form"),
        (b"budget 812", b"budget -1", "not a licence in canonical form"),
        (b"budget 812", b"budget " + "٣".encode(), "not a licence in canonical form"),
        (b"budget 812", b"budget 9223372036854775808", "below 2\\^63"),
        (b"resets 4", b"resets 4294967296", "below 2\\^32"),
        (b"image sha256:", b"image dirHash:", "not a licence in canonical form"),
        (b"machine 000b", b"machine 000c", "not a licence in canonical form"),
        (b"signature 30", b"signature 31", "not an ECDSA signature"),
        (b"signature ", b"note\nsignature ", "not a licence in canonical form"),
    ],
)
def test_anything_but_the_one_form_is_refused(old: bytes, new: bytes, message: str) -> None:
    text = licence.emit(signed())
    assert old in text
    with pytest.raises(EvidenceError, match=message):
        licence.parse(text.replace(old, new))


def test_licences_are_short() -> None:
    with pytest.raises(EvidenceError, match="larger than 1024 bytes"):
        licence.parse(licence.emit(signed()) + b"\n" * licence.MAX_BYTES)


def test_what_a_licence_cannot_say_is_not_signed_or_written() -> None:
    with pytest.raises(EvidenceError, match="below 2\\^63"):
        issued(bounds=replace(BOUNDS, clock=1 << 63))
    with pytest.raises(EvidenceError, match="not a licence in canonical form"):
        licence.emit(replace(signed(), lease="x"))
