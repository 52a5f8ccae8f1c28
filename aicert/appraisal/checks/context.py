"""What one appraisal was given and has verified so far, from which many checks read."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.appraisal.checks.quote import VerifiedQuote
from aicert.appraisal.checks.run import VerifiedRun
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import Ancestor
from aicert.formats.certificate import Certificate
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from aicert.appraisal.evidence.audited import Audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the caller gave, and what has been verified so far.

    `run` and `quote` are None until they are verified, and `ancestors` is empty. So a row of
    `optional.ROWS` needs the checks that verify what its judge reads. `audits`: the audits that the
    caller gave, each judged when it is called; None if it gave none. `then`: the latest time at
    which the run can have ended: `at`, unless a trusted time shows that the certificate existed
    earlier.
    """

    certificate: Certificate
    policy: Policy
    at: datetime
    then: datetime
    audits: "tuple[Callable[[], Audit], ...] | None" = None
    quote: VerifiedQuote | None = None
    run: VerifiedRun | None = None
    ancestors: tuple[Ancestor, ...] = ()
