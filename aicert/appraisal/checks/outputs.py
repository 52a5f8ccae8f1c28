"""Appraise what the run produced: outputs.exit, outputs.pcr8 and outputs.nonempty.

PCR 8 is computed from the statement, whose dirHashes are computed from the files that it lists, and
is compared with the quote; no event log is used.
"""

from aicert.appraisal.checklist import Checklist, both, check_equal
from aicert.appraisal.checks.quote import VerifiedQuote
from aicert.appraisal.checks.run import VerifiedRun
from aicert.errors import EvidenceError
from aicert.formats.listing import EMPTY_FILE_HEX, dir_digest
from aicert.formats.measurement import OUTPUT_PCR, output_events, replay
from aicert.text import counted


def appraise_outputs(
    checklist: Checklist, run: VerifiedRun | None, quote: VerifiedQuote | None
) -> None:
    """Decide outputs.exit, outputs.pcr8 and outputs.nonempty: how the run ended, and what it
    produced.
    """

    def ended(given: VerifiedRun) -> tuple[str, None]:
        if given.report.exit_code != "0":
            raise EvidenceError(f"the run failed: it ended with {given.report.exit_code}")
        return "the run ended with exit code 0", None

    checklist.step("outputs.exit", ended, run, "statement.form")
    checklist.step("outputs.pcr8", _pcr8, both(run, quote), "statement.form", "quote.pcrs")
    checklist.step("outputs.nonempty", _nonempty, run, "statement.form")


def _pcr8(given: tuple[VerifiedRun, VerifiedQuote]) -> tuple[str, None]:
    run, quote = given
    digests = {}
    for name, output in run.statement.outputs.items():
        # Computed from the listed files, so that no digest can stand for other files.
        digests[name] = dir_digest(output.files)
        refusal = f"output {name} does not match the dirHash given for it"
        check_equal(output.digest, digests[name], refusal)
    expected = replay(output_events(run.report.exit_code, digests, run.statement.report_digest))
    refusal = "the machine measured different outputs, a different exit code or a different report"
    quote.check_register(OUTPUT_PCR, expected, refusal)
    return "the machine measured these outputs, exit code and report", None


def _nonempty(run: VerifiedRun) -> tuple[str, None]:
    count = 0
    for name, output in run.statement.outputs.items():
        count += len(output.files)
        if all(digest == EMPTY_FILE_HEX for digest in output.files.values()):
            raise EvidenceError(f"output {name} holds no files, or only empty ones")
    return f"{counted(count, 'file')} in {counted(len(run.statement.outputs), 'output')}", None
