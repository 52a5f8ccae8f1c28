"""A trainer's own packages in the sandbox: they come first, under the audit hook, for its child."""

from pathlib import Path

import pytest

from enclave_runner.axolotl import training
from enclave_runner.sandbox.containment import Limits
from enclave_runner.sandbox.interpreter import PYTHON
from enclave_runner.sandbox.places import CODE, TOOLS
from rules.host import training_env

ROOT = Path(__file__).resolve().parents[3]
# `addict` is in the training environment; `aicert_tool` is in no environment.
PROGRAM = """
import importlib.util, sys
import addict
print(addict.__file__, importlib.util.find_spec("aicert_tool") is not None)
if "aicert_tool" in sys.argv:
    import aicert_tool
"""
REPLACED = "import collections\nPlace = collections.namedtuple('Place', 'name')\n"


@pytest.fixture(scope="module")
def environment() -> Path:
    return training_env.ensure_shown(ROOT)


def run(
    tmp_path: Path, environment: Path, tools: Path | None, *words: str
) -> training.TrainingResult:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return training.work(
        (PYTHON, "-P", "-m", "program", *words), {f"{CODE}/program.py": program},
        tmp_path / "work", environment, Limits(), tools=tools,
    )  # fmt: skip


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "tools" / "mergekit"
    (folder / "addict").mkdir(parents=True)
    (folder / "addict" / "__init__.py").write_text(REPLACED)
    (folder / "aicert_tool.py").write_text("exec(compile('1', 'x', 'exec'))\n")
    return folder


def test_packages_of_a_trainer_come_before_the_environment(
    tmp_path: Path, environment: Path, tools: Path
) -> None:
    result = run(tmp_path, environment, tools)
    assert (result.exit_code, result.log.read_text()) == ("0", f"{TOOLS}/addict/__init__.py True\n")


def test_no_other_child_sees_them(tmp_path: Path, environment: Path, tools: Path) -> None:
    result = run(tmp_path, environment, None)
    assert result.exit_code == "0"
    place, own = result.log.read_text().split()
    assert own == "False"
    assert not place.startswith(TOOLS)


def test_the_audit_hook_judges_them_like_the_environment(
    tmp_path: Path, environment: Path, tools: Path
) -> None:
    result = run(tmp_path, environment, tools, "aicert_tool")
    assert result.exit_code != "0"
    assert result.self_reported["violation"] == training.VIOLATIONS["code"]
