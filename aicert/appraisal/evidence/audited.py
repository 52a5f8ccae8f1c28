"""The record of a given audit and its verdict; `audits.py` makes and uses it."""

from aicert.appraisal.result import AttestationResult
from aicert.audits.results import Results
from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A certificate that was given for an audit.

    `results`: its results if the audit counts. `refused`: otherwise the reason why it does not.
    """

    verdict: AttestationResult
    results: Results | None = None
    refused: str = ""
