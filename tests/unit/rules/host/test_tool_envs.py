"""The folders of trainers' own packages on this computer."""

from pathlib import Path

import pytest

from aicert.errors import ToolError
from aicert.formats.machine_io import TOOLS
from rules.host import tool_envs


@pytest.mark.parametrize("trainer", TOOLS)
def test_a_lock_has_a_folder_of_its_own(trainer: str, tmp_path: Path) -> None:
    place = tool_envs.location(tmp_path, trainer)
    assert tool_envs.lock(trainer).is_file()
    assert place.parent.name == "envs"
    assert place.name.startswith(f"tool-{trainer}-")


def test_a_folder_that_is_complete_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICERT_CACHE", str(tmp_path))
    place = tool_envs.location(tmp_path, "mergekit")
    (place / "mergekit").mkdir(parents=True)
    (place / "complete").touch()
    assert tool_envs.ensure_shown(tmp_path, "mergekit") == place


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("lm_eval/tasks/arc/utils.py", True),
        ("lm_eval/tasks/manager.py", False),
        ("mergekit/plan.py", False),
        ("mergekit/lm_eval/tasks/arc/utils.py", False),
    ],
)
def test_definitions_of_tasks_are_left_out(name: str, cut: bool) -> None:
    assert tool_envs.is_left_out(name) is cut


@pytest.mark.parametrize("name", ["jinja2", "torch", "mistral-common", "kernels", "urllib3"])
def test_a_package_with_parts_removed_has_no_second_copy(name: str) -> None:
    tool_envs.require_open({"lxml", "lm-eval"}, "lm-eval")
    with pytest.raises(ToolError, match=f"lm-eval names {name}, of which"):
        tool_envs.require_open({"lxml", name}, "lm-eval")
