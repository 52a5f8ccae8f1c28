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

Kind = Literal["train", "merge", "quantise", "convert", "audit", "evaluate"]
KINDS: Final[Mapping[str, Kind]] = {
    "audit": "audit", "axolotl": "train", "axolotl-evaluate": "evaluate", "axolotl-merge": "merge",
    "convert-hf-to-gguf": "convert", "llmcompressor": "quantise", "lm-eval": "evaluate",
    "mergekit": "merge",
}  # fmt: skip
# The kinds of runs that make no model, and the words for them in a verdict.
OF_RESULTS: Final[Mapping[Kind | None, str]] = {"audit": "audit", "evaluate": "evaluation"}
# The kinds of runs that make a model from models, without training, and the words for them.
DERIVED: Final[Mapping[Kind | None, str]] = {
    "merge": "a merge", "quantise": "a quantisation", "convert": "a conversion",
}  # fmt: skip
# The one file that these runs make (docs/spec/audit.md, docs/spec/evaluation.md).
RESULTS: Final = "results.json"
# Keys of the run report: the input that is the base model; the input that a merge merges into it,
# or the adapter that an evaluation loads on top of it; and, with a number from 1, each model that
# mergekit merges, or the one that was quantised or converted, which is nobody's base
# (docs/spec/quantise.md).
BASE_INPUT, ADAPTER_INPUT, MODEL_INPUT = "baseInput", "adapterInput", "modelInput"


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


def derived_inputs(run: VerifiedRun) -> list[str]:
    """Return a line for each model that the output was made from: at least two for a merge, else
    one. All other inputs were read as rows.

    Raises EvidenceError for a report that does not name them as its trainer does.
    """
    is_merge, first = kind_of(run) == "merge", f"{MODEL_INPUT}1"
    of_trainer = ADAPTER_INPUT if run.statement.trainer == "axolotl-merge" else first
    named, lines = _named_inputs(run, of_trainer, *((BASE_INPUT,) if is_merge else ()))
    if is_merge and len(named) < 2:
        raise EvidenceError("a merge has at least two inputs, but the run report names only one")
    if not is_merge and len(lines) > 1:
        raise EvidenceError("one model was changed, but the run report names several")
    names = {CONFIG_INPUT, *(text.partition("/")[0] for text in named)}
    names |= {rows.name for rows in run.report.records}
    for item in run.lockfile.inputs:
        if item.name not in names:
            raise EvidenceError(f"the run report does not say that input {item.name} was used")
    return lines


def _named_inputs(run: VerifiedRun, *required: str) -> tuple[set[str], list[str]]:
    """Return the models and adapters that the report names, and a line for each.

    Each must be an input, as for `named_input`. Those `required` must be there.
    """
    keys = (BASE_INPUT, ADAPTER_INPUT, MODEL_INPUT)
    others = {key for key in run.report.values if key.startswith(keys)}
    named = {key: named_input(run, key) for key in sorted({*required, *others})}
    lines = [f"{key} (measured): {text[:200]!a}, {own}" for key, (text, own) in named.items()]
    return {text for text, _ in named.values()}, lines


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
    if run.report.loss is not None or run.report.unchanged_weights:
        raise EvidenceError(f"{what} has no model, but its report mentions one")
    rows = sum(records.rows for records in run.report.records)
    if not rows:
        raise EvidenceError(f"the {OF_RESULTS[kind_of(run)]} read no rows")
    named = _named_inputs(run, BASE_INPUT)[1] if kind_of(run) == "evaluate" else []
    return "\n".join([f"{RESULTS} about {counted(rows, 'row')}", *named]), None
