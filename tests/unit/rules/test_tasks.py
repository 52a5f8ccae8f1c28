"""The tasks of a repository whose `aicert.toml` defines no run yet."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError
from rules import tasks


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tasks, "PROJECT", tmp_path)
    (tmp_path / "aicert.toml").write_text('[machines.here]\ndriver = "local"\n')
    return tmp_path


@pytest.mark.parametrize(
    "creator", [tasks.task_lock, tasks.task_certify, tasks.task_track, tasks.task_export]
)
@pytest.mark.usefixtures("project")
def test_tasks_can_be_listed_before_there_is_a_run_but_not_run(creator: object) -> None:
    [whole] = list(creator())  # type: ignore[operator]
    assert whole["basename"] == creator.__name__.removeprefix("task_")  # type: ignore[attr-defined]
    assert whole["doc"] == creator.__doc__
    [action] = whole["actions"]
    with pytest.raises(ConfigError, match="does not define a run"):
        action()


def test_of_a_run_there_is_a_task_of_its_own(project: Path) -> None:
    with (project / "aicert.toml").open("a") as file:
        file.write(
            '[runs.a]\nconfig = "path:a.yml"\nmachine = "here"\noutputs = ["model"]\ninputs = {}\n'
        )
    whole, of_run = tasks.task_lock()
    assert whole == {"name": None, "doc": tasks.task_lock.__doc__}
    assert of_run["name"] == "a"
