import tracemalloc
from typing import Any

import pytest

from aicert.errors import EvidenceError, UndecidedError
from aicert.lease import answer_receipts
from aicert.lease.checks import RefusedError
from aicert.lease.receipts import Usage
from aicert.leasing import client_receipts
from aicert.leasing.accounts import Account
from tests.unit.aicert.lease.test_answer_receipts import KEY, STRANGER, TOKEN, receipt
from tests.unit.aicert.leasing import test_accounts

BOOT = answer_receipts.verify(TOKEN).boot


def accounted(*tokens: tuple[int, int]) -> Account:
    """Return the account of the boot whose key signs the answers, after these counts of tokens in
    and out.
    """
    beats = []
    for number in range(1, len(tokens) + 1):
        into, out = (sum(counts) for counts in zip(*tokens[:number], strict=True))
        usage = Usage(tokens_in=into, tokens_out=out, requests=number, ticks=number)
        beats.append((10 + number, usage))
    return test_accounts.account(*test_accounts.story(*beats, boot=BOOT))


def signed(key: Any = KEY, **changes: Any) -> bytes:
    return answer_receipts.sign(key, receipt(**changes))


def test_answers_fit_the_receipts_of_their_lease() -> None:
    held = [TOKEN, signed(number=2, answer="ab" * 16), TOKEN]
    data = b"".join(answer_receipts.to_text(one).encode() + b"\n" for one in held)
    checked = client_receipts.answered(accounted((7, 3), (7, 3)), client_receipts.parse_lines(data))
    assert (checked.count, checked.tokens_in, checked.tokens_out) == (2, 14, 6)


@pytest.mark.parametrize(
    ("check", "tokens"),
    [
        ("answer.boot", [signed(STRANGER)]),
        ("answer.body", [signed(lease="0" * 32)]),
        ("answer.number", [TOKEN, signed(answer="ab" * 16)]),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_its_check(
    check: str, tokens: list[bytes]
) -> None:
    with pytest.raises(RefusedError) as refused:
        client_receipts.answered(accounted((100, 100)), tokens)
    assert refused.value.check == check


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        ((6, 100), "for 7 tokens in of boot .* receipts here count only 6"),
        # As many in all, but an answer of three tokens was counted as one of two.
        ((8, 2), "for 3 tokens out of boot .* receipts here count only 2"),
    ],
)
def test_clients_hold_no_more_than_was_counted(counted: tuple[int, int], words: str) -> None:
    with pytest.raises(UndecidedError, match=words):
        client_receipts.answered(accounted(counted), [TOKEN])


def test_a_file_has_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    line = answer_receipts.to_text(TOKEN).encode()
    assert client_receipts.parse_lines(b"") == []
    for data, words in ((line, "cut short"), (line + b"\n?\n", "line 2: .* not base64")):
        with pytest.raises(EvidenceError, match=words):
            client_receipts.parse_lines(data)
    tracemalloc.start()
    with pytest.raises(EvidenceError, match="more than 1000000"):
        client_receipts.parse_lines(b"\n" * (client_receipts.MAX_ANSWERS + 1))
    assert tracemalloc.get_traced_memory()[1] < 1 << 21
    tracemalloc.stop()
    monkeypatch.setattr(client_receipts, "MAX_ANSWERS", 0)
    with pytest.raises(EvidenceError, match="more than 0"):
        client_receipts.parse_lines(line + b"\n")
