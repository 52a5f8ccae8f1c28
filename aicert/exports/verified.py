"""What passed, for exports that say more than a certificate claims: without a pass, no such export.

This holds a certificate with the files that it is for, and audits and evaluations whose own
certificates pass under the same policy. The caller judges them (`aicert verify --evidence`). Audits
are joined to rows by the rows' digest, evaluations to models by the model's digest.
"""

from aicert.appraisal.result import MODELS, AttestationResult
from aicert.audits.results import DataFact
from aicert.errors import EvidenceError
from aicert.exports.facts import Facts
from aicert.formats import run_report_facts
from aicert.formats.digest import Digest
from aicert.formats.run_report_facts import Records
from aicert.frozen import dataclass
from aicert.verifier.evidence import Audit, Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A certificate that passes, with its evidence; EvidenceError for a certificate that does not.

    `runs` has what this run and the runs before it read, this run first; None if that is not
    verified. `is_lineage_known`: no input is another run's output, or the origin of such inputs was
    verified.
    """

    facts: Facts
    result: AttestationResult
    runs: tuple[tuple[str, run_report_facts.Facts | None], ...]
    is_lineage_known: bool
    audits: tuple[Audit, ...]
    evaluations: tuple[Evaluation, ...]

    def __post_init__(self) -> None:
        if self.result.verdict != "passed":
            raise EvidenceError("the certificate does not pass, so that nothing is exported")
        if self.result.kind not in MODELS:
            raise EvidenceError("the certificate is for results and not for a model")
        if self.result.facts is None:
            raise EvidenceError("the run report is of version 1, which does not name rows")

    @property
    def records(self) -> tuple[Records, ...]:
        """The rows that this run itself read."""
        return () if self.result.facts is None else self.result.facts.records

    def about_rows(self, rows: Records) -> list[tuple[Audit, DataFact]]:
        """Return the audits that read exactly these rows."""
        return [
            (audit, fact)
            for audit in self.audits
            for fact in audit.results.data
            if (fact.digest, fact.rows.count, fact.bytes) == (rows.digest, rows.rows, rows.bytes)
        ]

    def about_output(self, digest: Digest) -> list[Evaluation]:
        """Return the evaluations of a whole output."""
        return [each for each in self.evaluations if each.is_about(str(digest))]
