"""Merge an adapter into a model in the machine: check the inputs, run the child, check the result.

The result is compared with the base, tensor by tensor: only tensors that the adapter names may have
changed, and all others must be the base's, byte for byte, as must be the files that hold no
weights. Otherwise there is no certificate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aicert.errors import LockError
from aicert.formats.run_report import Value
from enclave_runner.axolotl import report
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.tensors import Counts
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.merge import child, derivation, fitting, others, settings, shards
from enclave_runner.merge.derivation import (
    Derivation,
    DerivedModel,
    Models,
)
from enclave_runner.merge.settings import Settings
from enclave_runner.sandbox.places import OUTPUT

# The report's key of how many tensors of the base the adapter names.
TARGETED = "tensorsTargeted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A merge that passed every check. `targets`: the base's tensors that the adapter changes."""

    settings: Settings
    models: Models
    targets: frozenset[str]

    @property
    def base(self) -> tuple[Path, ...]:
        """The base's weight files."""
        return self.models.weights[self.settings.base.place]


def prepare(settings: Settings, measured: list[MeasuredInput], folder: Path) -> Prepared:
    """Refuse what cannot be merged, and prepare the rest for the child."""
    models = derivation.check_models(settings.references, measured, folder)
    base, adapter = (fitting.tensors_of(models.weights[each.place]) for each in settings.references)
    targets = fitting.targets(adapter, base)
    return Prepared(settings=settings, models=models, targets=targets)


def _job(prepared: Prepared, scratch: Path) -> Job:
    places = (each.place for each in prepared.settings.references)
    return Job(program=child, arguments=(*places, OUTPUT))


def compare(prepared: Prepared, output: DerivedModel) -> dict[str, Value]:
    """Count the tensors that changed. LockError if one changed that the adapter does not name."""
    compared = output.compared_with(prepared.base)
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
    shards.check(output)
    own = others.beside(prepared.settings.base, prepared.models.shown)
    # Axolotl copies no folders.
    wanted = {path: file for path, file in own.items() if "/" not in path}
    other = others.first_wrong(wanted, output, None)
    if other is not None:
        raise LockError(f"the merge went wrong: {other}")
    counts = Counts(
        unchanged=len(compared.unchanged), changed=len(compared.changed), new=len(compared.new)
    )
    return report.of_tensors(counts)


def _values(prepared: Prepared) -> Mapping[str, Value]:
    return {
        report.BASE_INPUT: Value("measured", prepared.settings.base.named),
        report.ADAPTER_INPUT: Value("measured", prepared.settings.adapter.named),
        TARGETED: Value("measured", len(prepared.targets)),
    }


MERGE: Final = Derivation(
    what=settings.TRAINER,
    read=settings.read,
    prepare=prepare,
    job=_job,
    values=_values,
    compare=compare,
)
