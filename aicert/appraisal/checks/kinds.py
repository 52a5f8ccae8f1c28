"""Which trainers are known, and of what kind their runs are; and outputs.results, for an audit.

For an unknown trainer, none of outputs.trained, outputs.derived and outputs.results can be decided,
since nobody knows what its runs show. For a known one, exactly one of them applies.
"""

from collections.abc import Mapping
from typing import Final, Literal

from aicert.appraisal.checklist import Checklist, NotApplicableError
from aicert.appraisal.checks.run import VerifiedRun
from aicert.errors import EvidenceError, UndecidedError
from aicert.text import counted

Kind = Literal["train", "merge", "audit"]
KINDS: Final[Mapping[str, Kind]] = {"audit": "audit", "axolotl": "train", "axolotl-merge": "merge"}
# The one file that an audit makes (docs/spec/audit.md).
RESULTS: Final = "results.json"


def kind_of(run: VerifiedRun | None) -> Kind | None:
    """The kind of a run; None if it is not verified or not known."""
    return None if run is None else KINDS.get(run.statement.trainer)


def check_kind(run: VerifiedRun, expected: Kind) -> None:
    """Raise unless a check for that kind of run applies."""
    kind = kind_of(run)
    if kind is None:
        raise UndecidedError(f"this verifier does not know trainer {run.statement.trainer}")
    if kind != expected:
        raise NotApplicableError(f"the run is of kind {kind}")


def appraise_results(checklist: Checklist, run: VerifiedRun | None) -> None:
    """outputs.results: what an audit read, and that it made nothing but results."""
    checklist.step("outputs.results", _results, run, "statement.form")


def _results(run: VerifiedRun) -> tuple[str, None]:
    check_kind(run, "audit")
    files = [list(output.files) for output in run.statement.outputs.values()]
    if files != [[RESULTS]]:
        raise EvidenceError(f"an audit makes one output with {RESULTS}, and nothing else")
    report = run.report
    if report.loss is not None or report.unchanged_weights:
        raise EvidenceError("an audit has no model, but its report mentions one")
    rows = sum(records.rows for records in report.records)
    if not rows:
        raise EvidenceError("the audit read no rows")
    return f"{RESULTS} about {counted(rows, 'row')}", None
