"""The list of code that runs in the machine is complete, and other files change nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.errors import ToolError
from aicert.files.machine_code import (
    MACHINE_CODE,
    SERVING_CODE,
    SERVING_ROOM,
    code_digest,
    machine_code,
)
from aicert.files.tree import read_file
from aicert.formats.listing import dir_digest
from tests.unit.code_tree import IN_ROOMS, OUTSIDE, code_tree

ROOT = Path(__file__).resolve().parents[4]
# The trainer's side: these modules import Axolotl and run with the training environment's Python.
TRAINING_SIDE = tuple(
    f"enclave_runner.axolotl.{name}" for name in ("axolotl_keys", "measuring", "plugin")
)


def test_the_digest_is_of_the_list_and_of_nothing_else(tmp_path: Path) -> None:
    counted = code_tree(tmp_path)
    files = {name: read_file(tmp_path / name) for name in counted}
    assert machine_code(tmp_path) == files
    assert code_digest(tmp_path) == dir_digest(files)


@pytest.mark.parametrize("name", OUTSIDE)
def test_code_that_the_machine_does_not_run_leaves_the_digest(tmp_path: Path, name: str) -> None:
    code_tree(tmp_path)
    before = code_digest(tmp_path)
    (tmp_path / name).write_bytes(b"changed")
    assert code_digest(tmp_path) == before


@pytest.mark.parametrize("name", IN_ROOMS)
def test_code_that_the_machine_runs_changes_the_digest(tmp_path: Path, name: str) -> None:
    code_tree(tmp_path)
    before = code_digest(tmp_path)
    (tmp_path / name).write_bytes(b"changed")
    assert code_digest(tmp_path) != before


def test_a_machine_that_serves_has_a_list_of_its_own(tmp_path: Path) -> None:
    serving = set(machine_code(ROOT, SERVING_CODE))
    training = set(machine_code(ROOT))
    room = {name for name in serving if name.startswith(SERVING_ROOM)}
    assert room
    assert not room & training
    assert {name for name in serving if name.startswith("aicert/lease/")} - training
    # Code that only one kind of machine runs makes no certificate of the other kind stale.
    code_tree(tmp_path)
    before = code_digest(tmp_path)
    (tmp_path / SERVING_ROOM).mkdir()
    (tmp_path / SERVING_ROOM / "one.py").write_bytes(b"changed")
    assert code_digest(tmp_path) == before


@pytest.mark.parametrize("entry", MACHINE_CODE)
def test_something_on_the_list_that_is_not_there_is_an_error(tmp_path: Path, entry: str) -> None:
    code_tree(tmp_path)
    if entry.endswith("/"):
        shutil.rmtree(tmp_path / entry)
    else:
        (tmp_path / entry).unlink()
    with pytest.raises(ToolError, match=f"there is nothing at {entry}$"):
        code_digest(tmp_path)


def test_a_room_of_which_only_byte_code_is_left_is_an_error(tmp_path: Path) -> None:
    code_tree(tmp_path)
    shutil.rmtree(tmp_path / "aicert/formats")
    (tmp_path / "aicert/formats/__pycache__").mkdir(parents=True)
    (tmp_path / "aicert/formats/__pycache__/one.pyc").touch()
    with pytest.raises(ToolError, match=r"there is nothing at aicert/formats/$"):
        code_digest(tmp_path)


def test_the_runner_imports_all_that_it_needs_from_the_list_alone(tmp_path: Path) -> None:
    names = machine_code(ROOT)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    dotted = (
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in names
        if name.startswith("enclave_runner/") and name.endswith(".py")
    )
    modules = [name for name in dotted if not name.startswith(TRAINING_SIDE)]
    assert "enclave_runner.boot.init" in modules
    assert "enclave_runner.__main__" in modules
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n importlib.import_module(name)\n"
        "for name, module in sys.modules.items():\n"
        " if name.partition('.')[0] in ('aicert', 'enclave_runner'):\n"
        "  print(name, module.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *modules],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(modules) <= set(loaded)
    for module, file in loaded.items():
        assert file == "None" or str(Path(file).relative_to(tmp_path)) in names, module
