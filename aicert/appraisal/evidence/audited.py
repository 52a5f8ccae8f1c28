"""An audit that was given, judged: the record alone (`audits.py` makes it and judges by it)."""

from aicert.appraisal.result import AttestationResult
from aicert.audits.results import Results
from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A certificate that was given as an audit's: `results` where it counts, else why not."""

    verdict: AttestationResult
    results: Results | None = None
    refused: str = ""
