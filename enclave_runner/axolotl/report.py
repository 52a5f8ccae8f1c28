"""Build a training's run report of values that are measured, derived from those or self-reported.

Values that the trainer reports are copied one by one, by a fixed table; anything else that it sends
is left out.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from aicert.errors import EvidenceError
from aicert.files.tensors import read_header
from aicert.formats import safetensors
from aicert.formats.digest import FileFact
from aicert.formats.fields import MAX_INT
from aicert.formats.run_report import Override, RunReport, Scalar, Value
from enclave_runner import machine_facts
from enclave_runner.axolotl.adapter_base import Base
from enclave_runner.axolotl.config import Effective
from enclave_runner.axolotl.tensors import Counts, compare
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.inputs.measure import MeasuredInput, unchanged_weights
from enclave_runner.inputs.rows import Rows

# The keys of the base model, and of an adapter that is merged into it or loaded on top of it.
BASE_INPUT, ADAPTER_INPUT = "baseInput", "adapterInput"
# The plugin's name of a value → its name in the report; `training.train` has checked types and
# sizes.
_SELF_REPORTED = {
    "steps": "steps",
    "totalSteps": "plannedSteps",
    "tokens": "tokens",
    "flops": "flops",
    "epochs": "epochs",
    "trainSeconds": "trainSeconds",
    "parameters": "modelParameters",
    "trainableParameters": "trainableParameters",
    "threads": "threads",
    "torch": "torch",
    "cpuCapability": "cpuCapability",
    "device": "device",
    "violation": "auditViolation",
}
_MAX_TEXT = 200
_MAX_NAMES = 1000
# The endings of weight files that `inputs.model_files` shows to a trainer.
_WEIGHTS = (".safetensors", ".bin")


def build(
    effective: Effective,
    rows: Rows,
    result: TrainingResult,
    inputs: list[MeasuredInput],
    output: Mapping[str, FileFact],
    target: Path,
) -> RunReport:
    """Build the report on one training, whose `output` files are in `target`."""
    values = {
        "effectiveConfig": Value("measured", effective.digest),
        "readingCpuSeconds": Value("measured", round(rows.cpu_seconds, 3)),
        **common(result, inputs, output, target),
        **_compared(inputs, target, output),
        **_self_reported_values(result.self_reported),
        **result.counted,
    }
    if len(result.pace) > 1:
        values["paceSteps"] = Value("self-reported", tuple(step for step, _ in result.pace))
        values["paceSeconds"] = Value("self-reported", tuple(at for _, at in result.pace))
    return RunReport(
        exit_code=result.exit_code,
        values=values,
        overrides=overrides(effective),
        unchanged_weights=tuple(unchanged_weights(inputs, output)),
        records=rows.records,
    )


def overrides(effective: Effective) -> tuple[Override, ...]:
    """Return the config's keys that were given other values."""
    return tuple(
        Override(key=item.key, configured=text(item.configured), used=text(item.used), why=item.why)
        for item in effective.overrides
    )


def of_violation(result: TrainingResult) -> dict[str, Value]:
    """Return what the guard said of a child's forbidden act, if there was one."""
    violation = result.self_reported.get("violation")
    if violation is None:
        return {}
    return {_SELF_REPORTED["violation"]: Value("self-reported", str(violation))}


def common(
    result: TrainingResult,
    inputs: list[MeasuredInput],
    output: Mapping[str, FileFact],
    target: Path,
) -> dict[str, Value]:
    """Return the values that are measured for anything that runs in the training environment."""
    values = {
        "wallSeconds": Value("measured", round(result.wall_seconds, 3)),
        "cpuSeconds": Value("measured", round(result.cpu_seconds, 3)),
        "maxMemoryBytes": Value("measured", result.max_rss),
        "outputBytes": Value("measured", sum(fact.size for fact in output.values())),
        "inputBytes": Value("measured", sum(f.size for i in inputs for f in i.files.values())),
        **machine_facts.values(),
    }
    if result.limit_hit is not None:
        values["limitHit"] = Value("measured", result.limit_hit)
    if result.excluded:
        values["excludedFiles"] = Value("measured", ", ".join(result.excluded)[:_MAX_TEXT])
    if result.log_truncated:
        values["logTruncated"] = Value("measured", 1)
    values |= _facts(result.facts)
    parameters = _parameters(target, output)
    if parameters:
        values["weightParameters"] = Value("measured", parameters)
    return values


def of_base(base: Base, renamed: Sequence[str]) -> dict[str, Value]:
    """Return which input is the base model, and the name for it that adapters' configs got."""
    values = {BASE_INPUT: Value("measured", base.reference)}
    if renamed:
        values["adapterBase"] = Value("derived", base.shown)
    return values


def of_weights(shown: Iterable[str]) -> dict[str, Value]:
    """Return the names of the inputs whose weights the trainer saw; nothing if they are too long.

    `shown`: the places of all model files that the trainer saw.
    """
    names = {place.partition("/")[0] for place in shown if place.endswith(_WEIGHTS)}
    text = ", ".join(sorted(names))
    return {"weightInputs": Value("measured", text)} if len(text) <= _MAX_NAMES else {}


def _compared(
    inputs: list[MeasuredInput], target: Path, output: Mapping[str, FileFact]
) -> dict[str, Value]:
    counts = compare(
        [(item.path / path, fact.size) for item in inputs for path, fact in item.files.items()],
        [(target / path, fact.size) for path, fact in output.items() if safetensors.is_named(path)],
    )
    return of_tensors(counts)


def of_tensors(counts: Counts) -> dict[str, Value]:
    """Return how many tensors of the output are new, changed, or unchanged from an input."""
    values = {
        "tensorsChanged": Value("measured", counts.changed),
        "tensorsNew": Value("measured", counts.new),
        "tensorsUnchanged": Value("measured", counts.unchanged),
    }
    if counts.unread:
        values["weightsUnread"] = Value("measured", "; ".join(counts.unread)[:_MAX_TEXT])
    return values


def _self_reported_values(self_reported: Mapping[str, object]) -> dict[str, Value]:
    values = {
        name: Value("self-reported", cast(Scalar, self_reported[key]))
        for key, name in _SELF_REPORTED.items()
        if key in self_reported
    }
    for steps, losses in (("lossSteps", "losses"), ("evalLossSteps", "evalLosses")):
        pairs = cast(list[tuple[float, float]], self_reported.get(losses))
        if pairs:
            values[steps] = Value("self-reported", tuple(step for step, _ in pairs))
            values[losses] = Value("self-reported", tuple(round(loss, 6) for _, loss in pairs))
    for name, number in cast(dict[str, float], self_reported.get("metrics", {})).items():
        values.setdefault(_metric_name(name), Value("self-reported", round(number, 6)))
    return values


def _metric_name(name: str) -> str:
    """Return a metric's name in the report: evalRewardsAccuracies for `eval_rewards/accuracies`."""
    first, *rest = re.split(r"[^A-Za-z0-9]+", name)
    return (first + "".join(word[:1].upper() + word[1:] for word in rest))[:64]


def _facts(facts: Mapping[str, object]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, version in cast(dict[str, str], facts["versions"]).items():
        values[f"{name}Version"] = Value("measured", version)
    for name, setting in cast(dict[str, str], facts["settings"]).items():
        first, *rest = name.lower().split("_")
        values[first + "".join(word.title() for word in rest)] = Value("measured", setting)
    return values


def text(value: object) -> str:
    """Return a setting as the report shows it: text or JSON, cut if it is long."""
    if value is None:
        return ""
    return (value if isinstance(value, str) else json.dumps(value, sort_keys=True))[:_MAX_TEXT]


def _parameters(target: Path, output: Mapping[str, FileFact]) -> int:
    """Return the number of weights in the output's safetensors files, by their headers."""
    total = 0
    for path, fact in output.items():
        if safetensors.is_named(path):
            try:
                with (target / path).open("rb") as file:
                    total += read_header(file.fileno(), fact.size).elements
            except EvidenceError:
                # The report says `weightsUnread`; the verifier refuses the file.
                continue
    return min(total, MAX_INT)
