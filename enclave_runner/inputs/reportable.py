"""Check that a run report can hold the names of everything that a run is about to read."""

from collections.abc import Sequence

from aicert.errors import EvidenceError, LockError
from aicert.formats import run_report
from aicert.formats.run_report import RunReport
from aicert.formats.run_report_facts import Records


def check_reportable(records: Sequence[Records], removed: Sequence[str]) -> None:
    """Before the trainer runs, raise LockError if no run report could name all that it read."""
    so_far = RunReport(exit_code="0", values={}, records=tuple(records), removed=tuple(removed))
    try:
        size = len(run_report.emit(so_far))
    except EvidenceError as error:
        raise LockError(f"the run report cannot say what was read: {error.message}") from None
    # The other half is left for everything else.
    if size > run_report.MAX_BYTES // 2:
        raise LockError(
            f"the names of what was read take {size} bytes, but a run report has room for "
            f"{run_report.MAX_BYTES // 2}",
            hint="merge the files of rows, or give them shorter names",
        )
