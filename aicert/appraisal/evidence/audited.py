"""A given audit and its verdict: only the record (`audits.py` makes it and uses it)."""

from aicert.appraisal.result import AttestationResult
from aicert.audits.results import Results
from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A certificate that was given for an audit: `results` if it counts, otherwise why not."""

    verdict: AttestationResult
    results: Results | None = None
    refused: str = ""
