"""What is common to trainers that evaluate a model.

Each such trainer has one record, an `Evaluation`, which is fixed in the image: it says how the
config is read, what the child runs, and how the child's numbers become results.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from aicert.errors import EvidenceError, LockError
from aicert.formats import strict_json
from aicert.formats.run_report import Override, RunReport, Value
from enclave_runner.axolotl import job, report, texts
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.inputs import model_files, reportable, rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Reference, Selection
from enclave_runner.inputs.rows import Room, Rows
from enclave_runner.sandbox.places import INPUTS

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is evaluated, and by which config.

    `references`: all files that the config names, other than rows. `digest`: the config's.
    """

    base: Reference
    adapter: Reference | None
    references: Sequence[Reference]
    config: bytes
    digest: str
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared(Generic[S]):
    """An evaluation that passed every check.

    `shown`: everything that the child will see, place → file or folder. `weights`: the places of
    all model files. `removed`: keys that were removed from their JSON.
    """

    asked: S
    rows: Rows
    shown: Mapping[str, Path]
    weights: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """An evaluation that ended; `data` has the results, or is None if it failed."""

    data: bytes | None
    result: TrainingResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Generic[S]):
    """A trainer that evaluates a model.

    `what`: how messages call the run. `read`: reads the config. `prepare`: refuses what cannot be
    evaluated, and makes rows; cleaned copies of models' JSON files go into a folder. `job`: says
    what the child runs and sees; it may write files beside the child's scratch folder. `results`:
    reads the child's numbers, as hostile. `subject`: says what the report is about.
    """

    what: str
    read: Callable[[bytes, Sequence[MeasuredInput]], S]
    prepare: Callable[[S, Sequence[MeasuredInput], Room, Path], Prepared[S]]
    job: Callable[[Prepared[S], Path], Job]
    results: Callable[[Prepared[S], Sequence[MeasuredInput], Path], bytes]
    subject: Callable[[S], Subject]

    def run(
        self,
        prepared: Prepared[S],
        measured: Sequence[MeasuredInput],
        room: Room,
        scratch: Path,
        tools: Path | None = None,
        gpus: Sequence[Path] = (),
    ) -> Evaluated:
        """Evaluate, in a child that writes to `scratch`. LockError if its numbers are impossible.

        `tools`: the trainer's own packages.
        """
        result = job.run(self.job(prepared, scratch), room, scratch, tools=tools, gpus=gpus)
        if result.exit_code != "0":
            return Evaluated(data=None, result=result)
        try:
            data = self.results(prepared, measured, result.output)
        except EvidenceError as error:
            raise LockError(f"the evaluation gave impossible results: {error.message}") from None
        return Evaluated(data=data, result=result)

    def report_of(
        self,
        prepared: Prepared[S],
        evaluated: Evaluated,
        measured: list[MeasuredInput],
        training_env: Path,
    ) -> RunReport:
        """Build the run report."""
        subject, result = self.subject(prepared.asked), evaluated.result
        values = {
            "effectiveConfig": Value("measured", subject.digest),
            "readingCpuSeconds": Value("measured", round(prepared.rows.cpu_seconds, 3)),
            **report.of_weights(prepared.weights),
            report.BASE_INPUT: Value("measured", subject.base.named),
            # The output is results, not a model, so it has no weights to look into.
            **report.common(result, measured, {}, result.output),
            "outputBytes": Value("measured", len(evaluated.data or b"")),
            **report.of_violation(result),
        }
        if subject.adapter is not None:
            values[report.ADAPTER_INPUT] = Value("measured", subject.adapter.named)
        named = texts.read_texts(
            subject.config,
            subject.references,
            {item.name: item for item in measured},
            training_env,
            prepared.shown,
        )
        return RunReport(
            exit_code=result.exit_code,
            values=values,
            overrides=subject.overrides,
            records=prepared.rows.records,
            removed=prepared.removed,
            texts=texts.named(named),
        )


def prepare(
    asked: S,
    references: Iterable[Reference],
    selections: Sequence[Selection],
    measured: Sequence[MeasuredInput],
    sources: Iterable[MeasuredInput],
    room: Room,
    folder: Path,
) -> Prepared[S]:
    """Refuse models and rows that cannot be read, and prepare the rest for the child.

    `sources`: what rows are read from. Cleaned copies of JSON files are written below `folder`.
    """
    models = model_files.prepare(
        references, measured, frozenset(), folder, model_types=axolotl_keys().model_types
    )
    read = rows.prepare(selections, {item.name: item for item in sources}, room)
    reportable.check_reportable(read.records, models.removed)
    shown = {f"{INPUTS}/{place}": path for place, path in models.shown.items()}
    return Prepared(
        asked=asked,
        rows=read,
        shown={**shown, **read.shown},
        weights=tuple(models.shown),
        removed=models.removed,
    )


def numbers_in(output: Path, name: str, most: int) -> object:
    """Read the numbers that the child left, as hostile. EvidenceError if it left none."""
    path = output / name
    if output.is_symlink() or not path.is_file():
        raise EvidenceError("it ended with 0 but left none")
    with rows.opened(path) as file:
        written = file.read(most + 1)
    return strict_json.loads(written, what="numbers", max_bytes=most)
