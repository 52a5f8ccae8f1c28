"""Merge in the machine: check the inputs, run the child that merges, check the result.

The result is compared with the base, tensor by tensor: only tensors that the adapter names may have
changed, and all others must be the base's, byte for byte. Otherwise there is no certificate.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import LockError
from aicert.formats import safetensors
from aicert.formats.digest import FileFact
from aicert.formats.run_report import RunReport, Value
from enclave_runner.axolotl import report, tensors, training
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.axolotl.tensors import Counts
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.inputs import model_files, reportable
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.rows import Room
from enclave_runner.merge import child, fitting
from enclave_runner.merge.settings import Settings
from enclave_runner.sandbox.interpreter import PYTHON
from enclave_runner.sandbox.places import CODE, INPUTS, OUTPUT

_ONE, _SHARD = re.compile(r"model\.safetensors"), re.compile(r"model[^/]*\.safetensors")
BASE_INPUT, ADAPTER_INPUT, TARGETED = "baseInput", "adapterInput", "tensorsTargeted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A merge that passed every check.

    `shown`: the files that the child will see, place below the inputs → file. `removed`: keys that
    were removed from their JSON. `base`: the weight files of the base. `targets`: the tensors in
    them that the adapter changes.
    """

    settings: Settings
    shown: Mapping[str, Path]
    removed: tuple[str, ...]
    base: tuple[Path, ...]
    targets: frozenset[str]


def prepare(settings: Settings, measured: list[MeasuredInput], folder: Path) -> Prepared:
    """Refuse what cannot be merged, and prepare the rest for the child.

    Cleaned copies of JSON files are written below `folder`.
    """
    models = model_files.prepare(
        settings.references,
        measured,
        frozenset(),
        folder,
        model_types=axolotl_keys().model_types,
    )
    reportable.check_reportable((), models.removed)
    base, adapter = (weights(reference, models.shown) for reference in settings.references)
    targets = fitting.targets(fitting.tensors_of(adapter), fitting.tensors_of(base))
    return Prepared(
        settings=settings,
        shown=models.shown,
        removed=models.removed,
        base=base,
        targets=targets,
    )


def weights(reference: Reference, shown: Mapping[str, Path]) -> tuple[Path, ...]:
    """Return the weight files that the child reads from an input. LockError if there are none."""
    below = reference.place.removeprefix(f"{INPUTS}/") + "/"
    files = {
        place.removeprefix(below): shown[place]
        for place in sorted(shown)
        if place.startswith(below) and safetensors.is_named(place)
    }
    if not files:
        raise LockError(
            f"input {reference.name} holds no weights for {reference.key}",
            hint="let `from` name the whole model, then ./doit lock",
        )
    if reference.role == "model":
        _check_names(reference.name, list(files))
    return tuple(files.values())


def _check_names(name: str, files: list[str]) -> None:
    """Refuse weight files with names that Axolotl's merge does not handle.

    It merges no other files, and writes no index for a single file, which no loader would then find
    under another name.
    """
    known = _ONE if len(files) == 1 else _SHARD
    for file in files:
        if not known.fullmatch(file):
            raise LockError(
                f"input {name} has weights in {file[:80]!a}, which a merge cannot read",
                hint="save the base again with Transformers, then ./doit lock",
            )


def run(prepared: Prepared, room: Room, scratch: Path) -> TrainingResult:
    """Merge in a child that writes to `scratch`, and return its result."""
    settings = prepared.settings
    return training.work(
        (PYTHON, "-P", "-m", child.__name__, settings.base.place, settings.adapter.place, OUTPUT),
        {
            f"{CODE}/{child.__name__.replace('.', '/')}.py": Path(child.__file__),
            **{f"{INPUTS}/{place}": path for place, path in prepared.shown.items()},
        },
        scratch,
        room.training_env,
        room.limits,
        user=room.user,
    )


def compare(prepared: Prepared, folder: Path, output: Mapping[str, FileFact]) -> Counts:
    """Count the tensors that changed. LockError if one changed that the adapter does not name."""
    compared = tensors.by_name(
        [(path, path.stat().st_size) for path in prepared.base],
        [(folder / path, fact.size) for path, fact in output.items() if safetensors.is_named(path)],
    )
    if compared.unread:
        raise LockError(f"merged weights cannot be read: {compared.unread[0][:200]!a}")
    wrong = {
        "are not the base's": compared.new,
        "of the base are missing": compared.lost,
        "have a different type or shape": compared.reshaped,
        "changed although the adapter does not name them": compared.changed - prepared.targets,
    }
    for what, names in wrong.items():
        if names:
            raise LockError(
                f"the merge went wrong: {len(names)} tensors {what}: {min(names)[:120]!a}"
            )
    return Counts(
        unchanged=len(compared.unchanged), changed=len(compared.changed), new=len(compared.new)
    )


def report_of(
    prepared: Prepared,
    result: TrainingResult,
    measured: list[MeasuredInput],
    output: Mapping[str, FileFact],
    folder: Path,
) -> RunReport:
    """Build the run report of a merge, and compare its output with the base.

    A failed merge has no output, so nothing is compared.
    """
    settings = prepared.settings
    values = {
        BASE_INPUT: Value("measured", settings.base.named),
        ADAPTER_INPUT: Value("measured", settings.adapter.named),
        TARGETED: Value("measured", len(prepared.targets)),
        **report.of_weights(prepared.shown),
        **report.common(result, measured, output, folder),
    }
    if "violation" in result.self_reported:
        values["auditViolation"] = Value("self-reported", str(result.self_reported["violation"]))
    if output:
        values |= report.of_tensors(compare(prepared, folder, output))
    return RunReport(exit_code=result.exit_code, values=values, removed=prepared.removed)
