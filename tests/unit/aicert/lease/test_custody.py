import pytest

from aicert.errors import AicertError
from aicert.lease import bundle, checks, custody, keys


def test_secrets_are_read_back() -> None:
    kept = custody.drawn(offline=False)
    read = custody.parse(custody.emit(kept))
    assert (read.lease, read.tpm_half, read.broker_half) == (
        kept.lease, kept.tpm_half, kept.broker_half,
    )  # fmt: skip
    assert keys.private_pem(read.key) == keys.private_pem(kept.key)
    assert kept.broker_half != bundle.NO_BROKER


def test_nothing_is_drawn_twice() -> None:
    one, other = custody.drawn(offline=False), custody.drawn(offline=False)
    assert one.lease != other.lease
    assert not {one.tpm_half, one.broker_half} & {other.tpm_half, other.broker_half}


def test_an_offline_lease_has_no_brokers_half() -> None:
    assert custody.drawn(offline=True).broker_half == bundle.NO_BROKER


def test_a_secret_is_in_no_representation_and_no_error() -> None:
    kept = custody.drawn(offline=False)
    data = custody.emit(kept)
    hidden = [kept.tpm_half.hex(), kept.broker_half.hex(), keys.private_pem(kept.key).decode()]
    shown = [repr(kept), str(kept)]
    for old, new in (
        (b'"version":1', b'"version":2'),
        (b'"version":1', b'"version": 1'),
        (b'"brokerHalf":"', b'"brokerHalf":"G'),
        (b'"tpmHalf":"', b'"tpmHalf":1,"x":"'),
        (b"BEGIN PRIVATE", b"BEGIN PRIVAT"),
        (b'"lease"', b'"note"'),
    ):
        assert old in data
        with pytest.raises(AicertError) as refused:
            custody.parse(data.replace(old, new, 1))
        shown += [refused.value.message, repr(refused.value), str(refused.value.hint)]
    for text in hidden:
        for part in (text, text[28:60]):
            assert not [one for one in shown if part in one]


def test_a_check_has_a_name_of_the_list() -> None:
    with pytest.raises(ValueError, match="no check of leases"):
        checks.RefusedError("lease.other", "x")
