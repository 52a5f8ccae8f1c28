"""Sign receipts of single answers with the boot's TLS key, numbered without repeats."""

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
class ReceiptRequest:
    """The client's side of a receipt.

    `nonce`: from the client. `evidence`: the evidence that it saw on this connection. `request`:
    the body of its request. `began`: the start, by time.monotonic().
    """

    nonce: str
    evidence: Digest
    request: Digest
    began: float


class Signer:
    """Signs the receipts of one boot."""

    def __init__(self, identity: Identity, terms: Terms) -> None:
        self._identity = identity
        self._terms = terms
        self._number = 0
        self._lock = threading.Lock()

    def sign(self, request: ReceiptRequest, answer: str, response: Digest, usage: Usage) -> bytes:
        """Sign the receipt of a counted answer. `answer`: its id, 32 hexadecimal digits."""
        with self._lock:
            self._number += 1
            number = self._number
        receipt = AnswerReceipt(
            lease=self._terms.lease,
            terms=self._terms.digest,
            model=self._terms.model,
            answer=answer,
            nonce=request.nonce,
            evidence=request.evidence,
            request=request.request,
            response=response,
            number=number,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            at=int(time.time()),
            milliseconds=int(1000 * (time.monotonic() - request.began)),
        )
        return answer_receipts.sign(self._identity.key, receipt)
