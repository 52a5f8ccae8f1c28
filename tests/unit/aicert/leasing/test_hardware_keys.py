"""Lease keys on hardware: the custody file, and what such a key must provide."""

from pathlib import Path

import pytest

from aicert.errors import EvidenceError, ToolError
from aicert.lease import custody, keys
from aicert.leasing import hardware_keys, packing
from aicert.leasing.hardware_keys import HeldKey
from tests.unit.aicert.broker.forged import Bench
from tests.vectors.leases import CUSTODIAN, LEASE, STRANGER, custody_file

PLACE = "pkcs11:token=leases;object=bot?module-path=/usr/lib/x.so&pin-value=4711"


def sign(place: str, data: bytes) -> bytes:
    assert place == PLACE
    return keys.sign(CUSTODIAN, data)


KEY = HeldKey(PLACE, CUSTODIAN.public_key(), sign)


def file(**halves: bytes) -> bytes:
    fresh = hardware_keys.drawn(KEY, offline=False)
    fresh.lease = LEASE
    for name, half in halves.items():
        setattr(fresh, name, half)
    return hardware_keys.emit(fresh)


def test_the_file_says_where_the_key_is() -> None:
    data = file()
    kept = hardware_keys.parse(data, sign)
    assert hardware_keys.emit(kept) == data
    assert kept.lease == LEASE
    assert keys.spki_digest(kept.key.public_key()) == keys.spki_digest(CUSTODIAN.public_key())
    assert keys.sign(kept.key, b"x")
    assert b"PRIVATE" not in data
    # A file that contains the key itself is the usual one.
    usual = hardware_keys.parse(custody_file(), sign)
    assert hardware_keys.emit(usual) == custody_file() == custody.emit(usual)


def test_an_offline_lease_has_no_brokers_half() -> None:
    assert hardware_keys.drawn(KEY, offline=True).broker_half == bytes(32)
    assert hardware_keys.drawn(KEY, offline=False).broker_half != bytes(32)


def test_files_that_are_none() -> None:
    data = file()
    for wrong in (
        data.replace(b'"version":2', b'"version":1'),
        data.replace(b'"lease":"', b'"lease": "'),
        data.replace(b'"public":"', b'"public":"A'),
        data.replace(b'{"brokerHalf"', b'{"a":1,"brokerHalf"'),
        data[:-1],
    ):
        assert wrong != data
        with pytest.raises(EvidenceError):
            hardware_keys.parse(wrong, sign)


@pytest.mark.parametrize(
    "signature", [keys.sign(STRANGER, b"x"), keys.sign(CUSTODIAN, b"y"), b"", b"\x30\x00"]
)
def test_a_signature_that_is_not_the_keys_is_given_to_nobody(signature: bytes) -> None:
    wrong = HeldKey(PLACE, CUSTODIAN.public_key(), lambda *_: signature)
    with pytest.raises(ToolError, match="the named key does not sign: "):
        wrong.sign(b"x", None)


def test_a_held_key_says_nothing_of_itself() -> None:
    kept = hardware_keys.parse(file(), sign)
    for text in (repr(KEY), repr(kept), str(kept.key)):
        assert "4711" not in text


def test_a_broker_signs_with_a_key_that_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    path = packing.keys_path(bench.bundle)
    usual = custody.parse(path.read_bytes())
    path.write_bytes(file(tpm_half=usual.tpm_half, broker_half=usual.broker_half))
    monkeypatch.setattr(
        "tests.unit.aicert.broker.forged.keys",
        lambda _: hardware_keys.parse(path.read_bytes(), sign),
    )
    bench.broker = bench.started()
    machine = bench.machine()
    order = machine.beat()
    assert machine.bounds(order).budget == 110
    assert machine.is_open
    bench.close()
