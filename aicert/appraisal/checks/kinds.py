"""Which trainers are known, and of what kind their runs are; and outputs.results, for an audit and
an evaluation.

For an unknown trainer, none of outputs.trained, outputs.derived and outputs.results can be decided,
since nobody knows what its runs show. For a known one, exactly one of them applies.
"""

from collections.abc import Mapping
from typing import Final, Literal

from aicert.appraisal.checklist import Checklist, NotApplicableError
from aicert.appraisal.checks.run import VerifiedRun
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.digest import Digest
from aicert.formats.lockfile import CONFIG_INPUT
from aicert.text import counted

Kind = Literal["train", "merge", "audit", "evaluate"]
KINDS: Final[Mapping[str, Kind]] = {
    "audit": "audit", "axolotl": "train", "axolotl-evaluate": "evaluate", "axolotl-merge": "merge",
}  # fmt: skip
# Kinds of runs that make no model, as a verdict calls them.
OF_RESULTS: Final[Mapping[Kind | None, str]] = {"audit": "audit", "evaluate": "evaluation"}
# The one file that they make (docs/spec/audit.md, docs/spec/evaluation.md).
RESULTS: Final = "results.json"


# The input that is the base model; and for a merge the input that is merged into it, for an
# evaluation the adapter that was loaded on top of it.
BASE_INPUT, ADAPTER_INPUT = "baseInput", "adapterInput"


def kind_of(run: VerifiedRun | None) -> Kind | None:
    """The kind of a run; None if it is not verified or not known."""
    return None if run is None else KINDS.get(run.statement.trainer)


def check_kind(run: VerifiedRun, *expected: Kind) -> None:
    """Raise unless a check for one of these kinds of run applies."""
    kind = kind_of(run)
    if kind is None:
        raise UndecidedError(f"this verifier does not know trainer {run.statement.trainer}")
    if kind not in expected:
        raise NotApplicableError(f"the run is of kind {kind}")


def named_input(run: VerifiedRun, key: str) -> tuple[str, Digest]:
    """What the report says of `key`, measured: an input other than the config, maybe with a folder
    in it; and the input's digest. EvidenceError if it names none.
    """
    value = run.report.values.get(key)
    text = "" if value is None or value.origin != "measured" else str(value.data)
    for item in run.lockfile.inputs:
        if item.name == text.partition("/")[0] and item.name != CONFIG_INPUT:
            return text, item.digest
    raise EvidenceError(f"the run report names no input as its {key}")


def appraise_results(checklist: Checklist, run: VerifiedRun | None) -> None:
    """outputs.results: what an audit or an evaluation read, and that it made only results."""
    checklist.step("outputs.results", _results, run, "statement.form")


def _results(run: VerifiedRun) -> tuple[str, None]:
    check_kind(run, "audit", "evaluate")
    what = f"an {OF_RESULTS[kind_of(run)]}"
    files = [list(output.files) for output in run.statement.outputs.values()]
    if files != [[RESULTS]]:
        raise EvidenceError(f"{what} makes one output with {RESULTS}, and nothing else")
    report = run.report
    if report.loss is not None or report.unchanged_weights:
        raise EvidenceError(f"{what} has no model, but its report mentions one")
    rows = sum(records.rows for records in report.records)
    if not rows:
        raise EvidenceError(f"the {OF_RESULTS[kind_of(run)]} read no rows")
    lines = [f"{RESULTS} about {counted(rows, 'row')}"]
    keys = [BASE_INPUT, ADAPTER_INPUT] if ADAPTER_INPUT in report.values else [BASE_INPUT]
    for key in keys if kind_of(run) == "evaluate" else ():
        name, digest = named_input(run, key)
        lines.append(f"{key} (measured): {name[:200]!a}, {digest}")
    return "\n".join(lines), None
