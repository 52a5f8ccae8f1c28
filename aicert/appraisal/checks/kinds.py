"""The kinds of runs, by trainer; and outputs.results, the check of an audit or an evaluation.

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
    "lm-eval": "evaluate",
}  # fmt: skip
# The kinds of runs that make no model, and the words for them in a verdict.
OF_RESULTS: Final[Mapping[Kind | None, str]] = {"audit": "audit", "evaluate": "evaluation"}
# The one file that these runs make (docs/spec/audit.md, docs/spec/evaluation.md).
RESULTS: Final = "results.json"


# Keys of the run report: the input that is the base model; and the input that a merge merges into
# it, or the adapter that an evaluation loads on top of it.
BASE_INPUT, ADAPTER_INPUT = "baseInput", "adapterInput"


def kind_of(run: VerifiedRun | None) -> Kind | None:
    """Return the kind of a run; None if the run is not verified or its trainer is not known."""
    return None if run is None else KINDS.get(run.statement.trainer)


def check_kind(run: VerifiedRun, *expected: Kind) -> None:
    """Check that the run is of one of these kinds.

    Raises NotApplicableError for another kind, UndecidedError if the trainer is not known.
    """
    kind = kind_of(run)
    if kind is None:
        raise UndecidedError(f"this verifier does not know trainer {run.statement.trainer}")
    if kind not in expected:
        raise NotApplicableError(f"the run is of kind {kind}")


def named_input(run: VerifiedRun, key: str) -> tuple[str, Digest]:
    """Return the input that the report names as `key`, maybe with a folder in it, and its digest.

    The value must be measured, and the input must not be the config; otherwise EvidenceError.
    """
    value = run.report.values.get(key)
    text = "" if value is None or value.origin != "measured" else str(value.data)
    for item in run.lockfile.inputs:
        if item.name == text.partition("/")[0] and item.name != CONFIG_INPUT:
            return text, item.digest
    raise EvidenceError(f"the run report names no input as its {key}")


def appraise_results(checklist: Checklist, run: VerifiedRun | None) -> None:
    """Decide outputs.results: what an audit or an evaluation read, and that it made only
    results.
    """
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
