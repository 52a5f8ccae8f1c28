"""Receipts of single answers, signed with the boot's TLS key: one number each, none twice."""

import threading
import time

from aicert.formats.digest import Digest
from aicert.frozen import dataclass
from aicert.lease import answer_receipts
from aicert.lease.answer_receipts import AnswerReceipt
from aicert.lease.terms import Terms
from enclave_runner.serving.answers import Usage
from enclave_runner.serving.tls import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client who wants a receipt asked: his nonce, what he was shown on his connection, and
    the body of his request; `began`: when, by time.monotonic().
    """

    nonce: str
    evidence: Digest
    request: Digest
    began: float


class Signer:
    """Signs for one boot."""

    def __init__(self, identity: Identity, terms: Terms) -> None:
        self._identity = identity
        self._terms = terms
        self._number = 0
        self._lock = threading.Lock()

    def sign(self, asked: Asked, answer: str, response: Digest, usage: Usage) -> bytes:
        """The receipt of an answer that was counted. `answer`: its own 32 hexadecimal digits."""
        with self._lock:
            self._number += 1
            number = self._number
        receipt = AnswerReceipt(
            lease=self._terms.lease,
            terms=self._terms.digest,
            model=self._terms.model,
            answer=answer,
            nonce=asked.nonce,
            evidence=asked.evidence,
            request=asked.request,
            response=response,
            number=number,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            at=int(time.time()),
            milliseconds=int(1000 * (time.monotonic() - asked.began)),
        )
        return answer_receipts.sign(self._identity.key, receipt)
