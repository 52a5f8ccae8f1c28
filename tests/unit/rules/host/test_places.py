"""`./doit` on a repository other than its own, as an installed one runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
TOML = """\
[runs.mine]
config = "path:mine.yml"
machine = "local"
outputs = ["model"]
[runs.mine.inputs]
rows = "path:examples/alpaca"
[machines.local]
driver = "local"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project whose own modules have the names of ours and of libraries that we load."""
    for name in ("rules/__init__.py", "rules/tasks.py", "tomlkit.py", "rich.py", "doit.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('not ours')\n")
    (tmp_path / "pyproject.toml").write_text("[tool.doit]\nloader = 'nobody'\n")
    (tmp_path / "aicert.toml").write_text(TOML)
    (tmp_path / "own_helper.py").write_text("NAME = 'mine'\n")
    (tmp_path / "dodo.py").write_text((ROOT / "rules/starter/dodo.txt").read_text() + OWN_TASK)
    return tmp_path


OWN_TASK = """
from own_helper import NAME


def task_own():
    \"\"\"a task of the repository's owner\"\"\"
    def say():
        import tomlkit
        print(NAME, tomlkit.__file__)
    return {"actions": [say]}
"""


def doit(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", str(ROOT / "rules/start.py"), "rules", *words],
        cwd=project,
        # This needs its own cache, since `clean` empties it.
        env={
            **os.environ,
            "AICERT_PROJECT": str(project),
            "AICERT_CACHE": str(project / ".aicert"),
            "PYTHONPATH": "",
        },
        capture_output=True,
        text=True,
    )


def test_tasks_are_of_the_repository_and_code_is_ours(project: Path) -> None:
    done = doit(project, "list", "--all")
    assert done.returncode == 0, done.stderr
    names = {line.split()[0] for line in done.stdout.splitlines() if line[:1].isalpha()}
    assert {"certify:mine", "lock:mine", "own", "image"} <= names
    assert "example" not in names


def test_a_task_of_its_own_finds_its_modules_and_our_libraries(project: Path) -> None:
    done = doit(project, "run", "own")
    assert done.returncode == 0, done.stderr
    assert "mine " in done.stdout
    assert str(project / "tomlkit.py") not in done.stdout


def test_commands_for_developers_of_this_project_are_left_out(project: Path) -> None:
    shown = doit(project, "help").stdout
    assert "\n  certify " in shown
    assert "\n  mutants " not in shown
    assert doit(project, "mutants").returncode == 3


def test_a_folder_called_like_the_examples_is_its_owners(project: Path) -> None:
    done = doit(project, "lock", "mine")
    assert done.returncode != 0
    assert not (project / "examples").exists(), "nothing is made there"


def test_an_aicert_toml_that_is_wrong_leads_to_the_page_that_is_installed(project: Path) -> None:
    (project / "aicert.toml").write_text(TOML.replace('"local"\n', '"locla"\n', 1))
    done = doit(project, "list")
    assert done.returncode == 3
    (project / "aicert.toml").write_text("[runs.mine]\ncolour = 1\n")
    assert ".aicert/tool/docs/spec/aicert-toml.md" in doit(project, "list").stderr


def test_clean_leaves_the_owners_environment(project: Path) -> None:
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").touch()
    done = doit(project, "clean", "--yes", "envs")
    assert done.returncode == 0, done.stderr
    assert (project / ".venv/bin/python").exists()


def test_images_and_runners_are_made_from_our_code_and_locked_in_the_repository(
    project: Path,
) -> None:
    code = (
        "from pathlib import Path\n"
        "from rules.host.places import code_of\n"
        "from rules.image.place import place\n"
        "where = place(Path.cwd())\n"
        "print(where.code, code_of(Path.cwd()), where.root, where.cache, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={"PYTHONPATH": str(ROOT), "AICERT_PROJECT": str(project), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [
        *(str(ROOT), str(ROOT), str(project)),
        str(project / ".aicert/image"),
    ], done.stderr
