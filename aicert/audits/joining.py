"""Check that the results of an audit are about the inputs and the rows of its run."""

from collections.abc import Iterable, Mapping

from aicert.audits.results import CheckFact, Results
from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.formats.run_report_facts import Records


def check_rows(results: Results, records: Iterable[Records]) -> None:
    """Raise EvidenceError unless the results are about exactly the rows in `records`."""
    read = {(each.name, each.split): _of_records(each) for each in records}
    audited = {
        (fact.name, fact.split): (fact.rows.count, fact.bytes, fact.digest, fact.unread_bytes)
        for fact in results.data
    }
    for name, split in sorted(read.keys() | audited.keys()):
        if read.get((name, split)) != audited.get((name, split)):
            raise EvidenceError(
                f"the results and the run report differ about the rows of {name}, split {split!a}"
            )


def _of_records(records: Records) -> tuple[int, int, Digest, int]:
    return records.rows, records.bytes, records.digest, records.unread_bytes


def check_lists(checks: Iterable[CheckFact], inputs: Mapping[str, Digest]) -> None:
    """Raise EvidenceError unless every list is an input of the run, by name and digest."""
    for check in checks:
        if check.list is not None and inputs.get(check.list.name) != check.list.digest:
            raise EvidenceError(f"the list of check {check.name} is not an input of the run")
