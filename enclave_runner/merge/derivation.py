"""What is common to trainers that make a model of models, without any training.

Each such trainer has one record, a `Derivation`, which is fixed in the image: it says how the
config is read, what the child runs, and how the output is compared with the inputs.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from aicert.errors import LockError
from aicert.formats import machine_io, safetensors
from aicert.formats.digest import FileFact
from aicert.formats.run_report import RunReport, Value
from enclave_runner.axolotl import job, report, tensors, texts
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.axolotl.tensors import ByName, Counts
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.inputs import model_files, reportable, rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Reference, Selection
from enclave_runner.inputs.rows import Room, Rows
from enclave_runner.sandbox.places import INPUTS

# The report's keys: each model that is nobody's base, with a number from 1; and how many numbers of
# the output were computed again.
MODEL_INPUT, AGAIN = "modelInput", "numbersComputedAgain"
_ONE, _SHARD = re.compile(r"model\.safetensors"), re.compile(r"model[^/]*\.safetensors")


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """The models of a run, checked.

    `shown`: the files that the child will see, place below the inputs → file. `removed`: keys that
    were removed from their JSON. `weights`: the weight files of each model, by its place in the
    sandbox.
    """

    shown: Mapping[str, Path]
    removed: tuple[str, ...]
    weights: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class DerivedModel:
    """A run's output: `files` below `folder`; there are none if the child failed.

    `seed`: random bytes, drawn after the child had ended.
    """

    folder: Path
    files: Mapping[str, FileFact]
    seed: bytes

    @property
    def weights(self) -> list[tuple[Path, int]]:
        """The files with weights, and their sizes."""
        return [
            (self.folder / path, fact.size)
            for path, fact in self.files.items()
            if safetensors.is_named(path)
        ]

    def compared_with(self, model: Iterable[Path]) -> ByName:
        """Compare the weights with those of a model. LockError if they cannot be read."""
        compared = tensors.by_name([(path, path.stat().st_size) for path in model], self.weights)
        if compared.unread:
            raise LockError(f"the output's weights cannot be read: {compared.unread[0][:200]!a}")
        return compared

    def reported(self, counts: Counts, again: int, seed_key: str) -> dict[str, Value]:
        """Return what the report says of an output, of which `again` numbers were computed again.

        `seed_key`: the report's key for the seed that chose them.
        """
        return {
            **report.of_tensors(counts),
            AGAIN: Value("measured", again),
            seed_key: Value("measured", self.seed.hex()),
        }


class Settings(Protocol):
    """What a trainer reads in its config."""

    @property
    def references(self) -> tuple[Reference, ...]:
        """All inputs that the config names."""


class Prepared(Protocol):
    """A run that passed every check."""

    @property
    def settings(self) -> Settings:
        """What the config says."""

    @property
    def models(self) -> Models:
        """The models that the child will see."""


S = TypeVar("S", bound=Settings)
P = TypeVar("P", bound=Prepared)


@dataclass(frozen=True, kw_only=True, slots=True)
class Derivation(Generic[S, P]):
    """A trainer that makes a model of models.

    `what`: how messages call the run. `read`: reads the config; it is given for each input whether
    that is a folder. `prepare`: refuses what cannot be done; cleaned copies of JSON files go into a
    folder. `job`: says what the child runs and sees besides the models; it may write
    files beside the child's scratch folder. `values`: what the
    report says about the inputs. `compare`: refuses an output that cannot come from these inputs,
    and returns what the report says about it. `event`: the stage that the host shows. `selections`:
    the rows that the child reads besides the models, if it reads any.
    """

    what: str
    read: Callable[[bytes, Mapping[str, bool]], S]
    prepare: Callable[[S, list[MeasuredInput], Path], P]
    job: Callable[[P, Path], Job]
    values: Callable[[P], Mapping[str, Value]]
    compare: Callable[[P, DerivedModel], Mapping[str, Value]]
    event: str = machine_io.MERGING
    selections: Callable[[P], Sequence[Selection]] = lambda _: ()

    def rows(self, prepared: P, measured: Iterable[MeasuredInput], room: Room) -> Rows | None:
        """Make the rows that the child reads; None if it reads none. Raises LockError."""
        selections = self.selections(prepared)
        if not selections:
            return None
        read = rows.prepare(selections, {item.name: item for item in measured}, room)
        reportable.check_reportable(read.records, prepared.models.removed)
        return read

    def run(
        self,
        prepared: P,
        room: Room,
        scratch: Path,
        tools: Path | None = None,
        read: Rows | None = None,
    ) -> TrainingResult:
        """Run the child, which writes to `scratch`. `tools`: the trainer's own packages."""
        own = self.job(prepared, scratch)
        shown = {f"{INPUTS}/{place}": path for place, path in prepared.models.shown.items()}
        if read is not None:
            shown |= read.shown
            own = replace(own, copied=read.copied)
        return job.run(replace(own, shown={**own.shown, **shown}), room, scratch, tools=tools)

    def report_of(
        self,
        prepared: P,
        result: TrainingResult,
        measured: list[MeasuredInput],
        output: DerivedModel,
        read: Rows | None = None,
    ) -> RunReport:
        """Build the run report, and compare the output with the inputs.

        A child that failed has no output, so nothing is compared. Only if rows were `read`, texts
        of the models' files, as tokenizers have them, were read beside them.
        """
        values = {
            **self.values(prepared),
            **report.of_weights(prepared.models.shown),
            **report.common(result, measured, output.files, output.folder),
            **report.of_violation(result),
        }
        if output.files:
            values |= self.compare(prepared, output)
        reported = RunReport(
            exit_code=result.exit_code, values=values, removed=prepared.models.removed
        )
        if read is None:
            return reported
        values["readingCpuSeconds"] = Value("measured", round(read.cpu_seconds, 3))
        inputs = {item.name: item for item in measured}
        named = texts.of_files(prepared.settings.references, inputs)
        return replace(reported, records=read.records, texts=texts.named(named))


def check_models(
    references: Iterable[Reference], measured: Iterable[MeasuredInput], folder: Path
) -> Models:
    """Refuse models that cannot be read; cleaned copies of JSON files are written below `folder`.

    Raises LockError or ConfigError.
    """
    references = tuple(references)
    models = model_files.prepare(
        references, measured, frozenset(), folder, model_types=axolotl_keys().model_types
    )
    reportable.check_reportable((), models.removed)
    return Models(
        shown=models.shown,
        removed=models.removed,
        weights={each.place: _weights(each, models.shown) for each in references},
    )


def files_of(model: Reference, shown: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files that the child sees of a model, by their paths in it.

    `shown`: place below the inputs → file, of all models.
    """
    below = model.place.removeprefix(f"{INPUTS}/") + "/"
    return {
        place.removeprefix(below): path for place, path in shown.items() if place.startswith(below)
    }


def _weights(reference: Reference, shown: Mapping[str, Path]) -> tuple[Path, ...]:
    """Return the weight files that the child reads from an input. LockError if there are none."""
    own = files_of(reference, shown)
    files = {path: own[path] for path in sorted(own) if safetensors.is_named(path)}
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
                f"input {name} has weights in {file[:80]!a}, which no such run can read",
                hint="save the base again with Transformers, then ./doit lock",
            )
