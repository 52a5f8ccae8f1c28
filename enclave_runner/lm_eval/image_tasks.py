"""The tasks that the image carries: their files, and their rows as something to read rows from.

They lie beside this module, so the image's digest covers them. To be read like everything else, a
task's rows look like an input with the task's name, which is in no lockfile
(aicert/formats/known_tasks.py has what they must be).
"""

from pathlib import Path

from aicert.files.tree import read_file
from aicert.formats.digest import Digest
from enclave_runner.inputs.measure import MeasuredInput

FOLDER = Path(__file__).with_name("tasks")


def task_file(name: str) -> Path:
    """Return the place of a task's file."""
    return FOLDER / f"{name}.yaml"


def rows(name: str) -> MeasuredInput:
    """Return a task's rows."""
    path = FOLDER / f"{name}.jsonl"
    fact = read_file(path)
    return MeasuredInput(
        name=name,
        path=path,
        digest=Digest("sha256", fact.sha256),
        files={"": fact},
        stat_keys={},
        uri=f"task {name} of the image",
    )
