"""What is common to trainers that evaluate a model.

Each such trainer has one record, an `Evaluation`, which is fixed in the image: it says how the
config is read, what the child runs, and how the child's numbers become results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from aicert.errors import EvidenceError, LockError
from aicert.formats import strict_json
from aicert.formats.run_report import RunReport
from enclave_runner.axolotl import job
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.inputs import rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.rows import Room

S = TypeVar("S")
P = TypeVar("P")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """An evaluation that ended; `data` has the results, or is None if it failed."""

    data: bytes | None
    result: TrainingResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Generic[S, P]):
    """A trainer that evaluates a model.

    `what`: how messages call the run. `read`: reads the config. `prepare`: refuses what cannot be
    evaluated, and makes rows; cleaned copies of models' JSON files go into a folder. `job`: says
    what the child runs and sees; it may write files beside the child's scratch folder. `results`:
    reads the child's numbers, as hostile. `report_of`: builds the run report; it is given the
    training environment.
    """

    what: str
    read: Callable[[bytes, Sequence[MeasuredInput]], S]
    prepare: Callable[[S, Sequence[MeasuredInput], Room, Path], P]
    job: Callable[[P, Path], Job]
    results: Callable[[P, Sequence[MeasuredInput], Path], bytes]
    report_of: Callable[[P, Evaluated, list[MeasuredInput], Path], RunReport]

    def run(
        self,
        prepared: P,
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


def numbers_in(output: Path, name: str, most: int) -> object:
    """Read the numbers that the child left, as hostile. EvidenceError if it left none."""
    path = output / name
    if output.is_symlink() or not path.is_file():
        raise EvidenceError("it ended with 0 but left none")
    with rows.opened(path) as file:
        written = file.read(most + 1)
    return strict_json.loads(written, what="numbers", max_bytes=most)
