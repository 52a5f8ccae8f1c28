"""The ids of the checks of leases, and the error of a check that fails.

A check that fails has exit code 1, as everywhere; what cannot be read stays an EvidenceError, and
what cannot be judged an UndecidedError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aicert.errors import EvidenceError, UndecidedError

CHECKS: Final = (
    # The machine checks what it is given.
    "bundle.header", "bundle.chunks", "bundle.files", "bundle.inert", "terms.digest",
    "licence.tpm",
    "order.signature", "order.answer", "order.epoch",
    # The custodian checks a machine that enrols.
    "enrol.nonce", "enrol.chain", "enrol.tier", "enrol.quote", "enrol.image", "enrol.firmware",
    "enrol.registers", "enrol.policy-ak", "enrol.storage-key", "enrol.counters",
    # The consumer checks a machine that serves.
    "serve.fresh", "serve.chain", "serve.tier", "serve.quote", "serve.image", "serve.firmware",
    "serve.channel", "serve.lease", "serve.terms", "serve.model", "serve.registers", "serve.boot",
    # Checks of each receipt.
    "receipt.signature", "receipt.form", "receipt.index", "receipt.body", "receipt.boot",
    "receipt.fresh",
    "ledger.successor", "ledger.meter", "ledger.clock", "ledger.boots", "ledger.tokens",
    "ledger.state",
    # Checks of a receipt for one answer.
    "answer.signature", "answer.fresh", "answer.channel", "answer.body", "answer.boot",
    "answer.number",
)  # fmt: skip


class RefusedError(EvidenceError):
    """A check of CHECKS failed; `check` is its id."""

    exit_code = 1

    def __init__(self, check: str, detail: str) -> None:
        if check not in CHECKS:
            raise ValueError(f"no check of leases is named {check}")
        super().__init__(f"{check}: {detail}")
        self.check = check


@contextmanager
def checking(check: str) -> Iterator[None]:
    """Turn an EvidenceError from inside that names no check into the RefusedError of `check`."""
    try:
        yield
    except (UndecidedError, RefusedError):
        raise
    except EvidenceError as error:
        raise RefusedError(check, error.message) from None
