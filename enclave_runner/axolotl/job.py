"""What trainers other than Axolotl's own run: one of our programs, as a child in the sandbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from enclave_runner.axolotl import training
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.inputs.rows import Room
from enclave_runner.sandbox.interpreter import PYTHON
from enclave_runner.sandbox.places import CODE


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A program, its arguments, and the files that it sees besides its own: place → file or folder.

    `copied`: the size in bytes of copies among them, which take space where the child writes.
    """

    program: ModuleType
    arguments: tuple[str, ...]
    shown: Mapping[str, Path] = field(default_factory=dict)
    copied: int = 0


def run(
    job: Job, room: Room, scratch: Path, *, tools: Path | None = None, gpus: Sequence[Path] = ()
) -> TrainingResult:
    """Run the program, which writes to `scratch`. `tools`: the folder of a trainer's packages."""
    name = job.program.__name__
    return training.work(
        (PYTHON, "-P", "-m", name, *job.arguments),
        {f"{CODE}/{name.replace('.', '/')}.py": Path(str(job.program.__file__)), **job.shown},
        scratch,
        room.training_env,
        replace(room.limits, scratch_bytes=room.limits.scratch_bytes - job.copied),
        user=room.user,
        gpus=gpus,
        tools=tools,
    )
