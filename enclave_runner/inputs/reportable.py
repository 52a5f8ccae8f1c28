"""Whether a run report can hold what a run is about to read."""

from collections.abc import Sequence

from aicert.errors import EvidenceError, LockError
from aicert.formats import run_report
from aicert.formats.run_report import RunReport
from aicert.formats.run_report_facts import Records


def check_reportable(records: Sequence[Records], removed: Sequence[str]) -> None:
    """Refuse, before the trainer runs, what no run report can hold afterwards. Raises LockError."""
    so_far = RunReport(exit_code="0", values={}, records=tuple(records), removed=tuple(removed))
    try:
        size = len(run_report.emit(so_far))
    except EvidenceError as error:
        raise LockError(f"the run report cannot say what was read: {error.message}") from None
    # As much is left for all else.
    if size > run_report.MAX_BYTES // 2:
        raise LockError(
            f"the names of what was read fill {size} bytes of a run report, "
            f"at most {run_report.MAX_BYTES // 2} are left for them",
            hint="merge the files of rows, or give them shorter names",
        )
