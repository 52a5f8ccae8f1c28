"""Compare clients' receipts for answers with the receipts of their lease.

Each receipt for an answer is signed by the TLS key of a boot, which receipts of the lease name
under a TPM's signature; so whoever holds both knows that the leased image gave that answer.

Two different receipts with the same number were signed by copies of one machine. Clients together
cannot hold receipts for more tokens than the machine counted, of those that went in or of those
that came out: if they do, receipts of the lease are missing, or its count is wrong.
"""

from collections.abc import Iterable
from typing import Final

from aicert.errors import UndecidedError
from aicert.frozen import dataclass
from aicert.lease import answer_receipts
from aicert.lease.answer_receipts import AnswerReceipt
from aicert.lease.checks import RefusedError
from aicert.leasing import lines
from aicert.leasing.accounts import Account

MAX_ANSWERS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Totals of the clients' receipts for answers, all of which fit the receipts of the lease.

    `count`: how many different receipts there are.
    """

    count: int
    tokens_in: int
    tokens_out: int


def parse_lines(data: bytes) -> list[bytes]:
    """Parse a file of receipts, one token per line; EvidenceError names a line that is not one."""
    return lines.parse_lines(
        data,
        lambda line: answer_receipts.from_text(line.decode("ascii", "replace")),
        "receipts of answers",
        MAX_ANSWERS,
    )


def answered(account: Account, tokens: Iterable[bytes]) -> Answered:
    """Verify all tokens against the account, and return their totals.

    RefusedError names the check that failed, UndecidedError says what is missing.
    """
    counted = {entry.boot: (0, 0) for entry in account.entries}
    for entry in account.entries:
        into, out = counted[entry.boot]
        counted[entry.boot] = into + entry.usage.tokens_in, out + entry.usage.tokens_out
    seen: dict[tuple[str, int], AnswerReceipt] = {}
    for token in tokens:
        signed = answer_receipts.verify(token)
        receipt = signed.receipt
        if signed.boot not in counted:
            raise RefusedError(
                "answer.boot", f"answer {receipt.answer} is signed by no boot of these receipts"
            )
        answer_receipts.check_terms(receipt, account.ledger.terms)
        place = (signed.boot, receipt.number)
        if seen.setdefault(place, receipt) != receipt:
            raise RefusedError(
                "answer.number",
                f"two answers have number {receipt.number} of one boot: the machine runs twice",
            )
    for boot, (into, out) in counted.items():
        held = [one for (of, _), one in seen.items() if of == boot]
        _check_no_more(boot, "in", sum(one.tokens_in for one in held), into)
        _check_no_more(boot, "out", sum(one.tokens_out for one in held), out)
    return Answered(
        count=len(seen),
        tokens_in=sum(one.tokens_in for one in seen.values()),
        tokens_out=sum(one.tokens_out for one in seen.values()),
    )


def _check_no_more(boot: str, way: str, held: int, counted: int) -> None:
    if held > counted:
        raise UndecidedError(
            f"clients hold receipts for {held} tokens {way} of boot {boot}, but receipts here "
            f"count only {counted}: later ones are missing, or the count is wrong",
            hint="an answer is in the lease's receipts from the next heartbeat on: try again then",
        )
