from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.frozen import replace
from aicert.lease import licence, orders, receipts
from aicert.lease.checks import RefusedError
from aicert.lease.receipts import Receipt, Usage
from aicert.leasing import accounts
from aicert.leasing.accounts import Account
from tests.adversarial.enrolment_forge import RECEIPTS, Scene, judged
from tests.unit.aicert.lease import forge
from tests.unit.aicert.lease.test_orders import bare, order
from tests.vectors.leases import agreed

MACHINE = judged(Scene())
TERMS = agreed()


def receipt(body: bytes, value: int, **how: Any) -> Receipt:
    signer = MACHINE.receipt_key.qualified_name
    return forge.receipt(body, value, key=RECEIPTS, signer=signer, **how)


def story(*beats: tuple[int, Usage], boot: str = "b0" * 32) -> list[Receipt]:
    """Return receipts of one boot, each linked to the one before it."""
    previous, signed = TERMS.digest.hex, []
    for seq, (value, usage) in enumerate(beats, 1):
        body = receipts.emit_heartbeat(
            forge.heartbeat(seq=seq, previous=previous, usage=usage, boot=boot)
        )
        signed.append(receipt(body, value))
        previous = receipts.digest(signed[-1]).hex
    return signed


GOOD = story(
    (11, Usage(tokens_in=900, tokens_out=100, requests=1, ticks=1)),
    (13, Usage(tokens_in=1900, tokens_out=1000, requests=2, ticks=3)),
    (13, Usage(tokens_in=2000, tokens_out=1000, requests=3, ticks=3)),
)


def account(*given: Receipt) -> Account:
    lines = b"".join(receipts.emit(one) + b"\n" for one in given)
    return accounts.account(TERMS, MACHINE, accounts.parse_lines(lines))


def killed(by: Any = None, value: int = 4, **how: Any) -> Receipt:
    body = orders.emit_order(by or bare(orders.REVOKE))
    return receipt(body, value, index=licence.EPOCH_INDEX, **how)


def test_receipts_add_up_in_any_order_and_count_once() -> None:
    accounted = account(GOOD[2], *GOOD, GOOD[0])
    assert accounted.total == Usage(tokens_in=2000, tokens_out=1000, requests=3, ticks=3)
    assert (accounted.count, accounted.boots, accounted.first.value, accounted.ledger.meter) == (
        3,
        1,
        10,
        13,
    )
    assert accounted.ending is None
    assert account().count == 0


def test_a_kill_receipt_ends_the_account() -> None:
    ending = account(*GOOD, killed()).ending
    assert ending is not None
    assert (ending.order.kind, ending.epoch) == ("revoke", 4)


def test_a_boot_after_a_kill_receipt_goes_on_until_its_own() -> None:
    first, second = bare(orders.STOP), bare(orders.REVOKE, boot="b1" * 32, epoch=4)
    later = receipts.emit_heartbeat(
        forge.heartbeat(
            seq=4,
            previous=receipts.digest(GOOD[-1]).hex,
            usage=Usage(),
            boot="b1" * 32,
        )
    )
    both = [*GOOD, receipt(later, 13, reset=8), killed(first)]
    assert account(*both).ending is None
    ending = account(*both, killed(second, 5)).ending
    assert ending is not None
    assert (ending.order.kind, ending.epoch) == ("revoke", 5)


@pytest.mark.parametrize(
    ("check", "given"),
    [
        ("ledger.successor", GOOD[1:]),
        ("ledger.successor", [GOOD[0], GOOD[2]]),
        ("ledger.successor", [*GOOD, *story((11, Usage()), boot="b1" * 32)]),
        # Two copies of memory and TPM in step: equal bodies, signed twice.
        ("ledger.successor", [*GOOD, receipt(GOOD[2].body, 13, clock=1001)]),
        ("ledger.meter", story((9, Usage()))),
        ("ledger.tokens", story((11, Usage(tokens_in=1001, ticks=1)))),
        ("receipt.signature", [forge.receipt(GOOD[0].body, 11)]),
        ("receipt.body", [replace(GOOD[0], body=GOOD[1].body)]),
        ("receipt.index", [receipt(GOOD[0].body, 11, index=0x01800099)]),
        # Kill receipts: of two orders to a boot, at an epoch that an earlier one ended, for
        # another lease, for a grant, with an epoch that was not raised.
        ("ledger.state", [killed(), killed(bare(orders.STOP))]),
        ("ledger.state", [killed(), killed(bare(orders.STOP, epoch=4), 5)]),
        ("ledger.state", [killed(), killed(bare(orders.STOP, boot="b1" * 32), 5)]),
        ("ledger.state", [killed(bare(orders.REVOKE, lease="0" * 32))]),
        ("ledger.state", [killed(order())]),
        ("ledger.state", [killed(value=3)]),
        ("ledger.state", [killed(bare(orders.REVOKE, epoch=4))]),
        ("receipt.signature", [replace(killed(), signature=GOOD[0].signature)]),
    ],
)
def test_what_does_not_add_up_is_refused_by_its_check(check: str, given: list[Receipt]) -> None:
    with pytest.raises(RefusedError) as refused:
        account(*given)
    assert refused.value.check == check


def test_a_file_of_receipts_has_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    line = receipts.emit(GOOD[0])
    for data, message in (
        (line, "is cut short"),
        (line + b"\n\n", "line 2: "),
        (line + b"\n{}\n", "line 2: the receipt.body is missing"),
    ):
        with pytest.raises(EvidenceError, match=message):
            accounts.parse_lines(data)
    monkeypatch.setattr(accounts, "MAX_RECEIPTS", 1)
    with pytest.raises(EvidenceError, match="more than 1 receipts"):
        accounts.parse_lines(2 * (line + b"\n"))
