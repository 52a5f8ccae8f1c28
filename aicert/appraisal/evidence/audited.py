"""The record of given results and of the verdict on their certificate; `audits.py` makes it."""

from aicert.appraisal.checks.kinds import Kind
from aicert.appraisal.result import AttestationResult
from aicert.audits.results import Results
from aicert.formats.evaluated_tasks import Evaluated
from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A certificate that was given for an audit or for an evaluation.

    `kind`: what it claims to be. `results`: its results if it is an audit that counts.
    `evaluation`: its results if it is an evaluation that counts. `refused`: otherwise the reason
    why it does not.
    """

    verdict: AttestationResult
    kind: Kind = "audit"
    results: Results | None = None
    evaluation: Evaluated | None = None
    refused: str = ""
