"""Trainers that make a model of models, run in the runner's sandbox without a machine around it;
and programs in the training environment.
"""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aicert.formats.digest import FileFact
from enclave_runner.axolotl import training
from enclave_runner.inputs.measure import folders
from enclave_runner.inputs.rows import Room
from enclave_runner.merge.derivation import Derivation, DerivedModel
from enclave_runner.sandbox.containment import Limits
from rules.host import tool_envs, training_env
from tests.e2e.conftest import REPOSITORY
from tests.unit.enclave_runner.merge.test_merging import of


def tools_of(trainer: str) -> Path:
    """Return the folder of a trainer's own packages."""
    return tool_envs.ensure_shown(REPOSITORY, trainer) / trainer


def by_torch(code: str, *words: object, trainer: str | None = None) -> str:
    """Run code in the training environment, with a trainer's own packages if it is named."""
    python = training_env.python(training_env.ensure_shown(REPOSITORY))
    done = subprocess.run(
        [python, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        env=None if trainer is None else {"PYTHONPATH": str(tools_of(trainer))},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def derived(
    record: Derivation[Any, Any], trainer: str, config: str, inputs: Iterable[Path], work: Path
) -> tuple[Mapping[str, object], Mapping[str, FileFact]]:
    """Make a model of models below `work`; return what was measured, and its files."""
    measured = [of(each) for each in inputs]
    asked = record.read(config.encode(), folders(measured))
    work.mkdir()
    prepared = record.prepare(asked, measured, work / "models")
    room = Room(
        folder=work / "records",
        training_env=training_env.ensure_shown(REPOSITORY),
        limits=Limits(),
        user=None,
    )
    read = record.rows(prepared, measured, room)
    result = record.run(prepared, room, work / "scratch", tools_of(trainer), read)
    assert result.exit_code == "0", result.log.read_text()
    files = training.collect(result, work / "out")
    output = DerivedModel(folder=work / "out", files=files, seed=bytes(32))
    report = record.report_of(prepared, result, measured, output, read)
    return {key: value.data for key, value in report.values.items()}, files
