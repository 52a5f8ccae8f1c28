"""What `aicert init` writes: the wrapper in the user's repositories, and the review workflows."""

import difflib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from aicert.cli import init
from rules.package import contents

ROOT = Path(__file__).resolve().parents[4]
STARTER = ROOT / "rules/starter"
TOOL = """\
#!/bin/sh
printf '%s\\n' "$@"
echo "from $AICERT_INVOKED_FROM"
exit 7
"""


@dataclass(frozen=True, kw_only=True)
class Repository:
    root: Path
    packages: Path

    def run(self, *words: str, cwd: Path | None = None, **more: str) -> tuple[int, str, str]:
        environment = {"PATH": os.defpath, "AICERT_PYTHON": str(self.packages.parent / "python")}
        done = subprocess.run(
            [self.root / "doit", *words] if len(words) < 2 else words,
            cwd=cwd or self.root,
            env=environment | more,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    def install(self, version: str) -> None:
        """Install `aicert` as pip does, and next to it a tool that prints its arguments."""
        home = self.packages / contents.HOME
        home.mkdir(parents=True, exist_ok=True)
        (self.packages / "aicert").mkdir(exist_ok=True)
        (self.packages / "aicert/__init__.py").touch()
        (home / "doit").write_text(TOOL)
        (home / init.TOOL).write_text(f"version {version}\n")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "a repository"
    (root / "lockfiles").mkdir(parents=True)
    shutil.copy(STARTER / "doit", root / "doit")
    (root / "doit").chmod(0o755)
    (root / init.RECORD).write_text("version 1\n")
    packages = tmp_path / "packages"
    packages.mkdir()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    new_repository = Repository(root=root, packages=packages)
    new_repository.install("1")
    return new_repository


def test_it_hands_over_to_the_aicert_that_is_recorded(repository: Repository) -> None:
    code, out, err = repository.run("certify")
    assert (code, err) == (7, "")
    root = repository.root
    assert out.splitlines() == ["--project", str(root), "certify", f"from {root}"]
    # From now on the wrapper finds it without a Python.
    assert repository.run("certify", AICERT_PYTHON="/nowhere")[0] == 7


def test_it_works_on_its_own_repository_and_says_so_elsewhere(
    repository: Repository, tmp_path: Path
) -> None:
    root = repository.root
    (tmp_path / "link").symlink_to(root / "doit")
    code, out, err = repository.run(str(tmp_path / "link"), "certify", cwd=tmp_path)
    assert (code, err) == (7, f"doit  works on {root}\n")
    assert out.splitlines() == ["--project", str(root), "certify", f"from {tmp_path}"]
    (root / "in/side").mkdir(parents=True)
    code, out, err = repository.run("certify", cwd=root / "in/side")
    assert (code, err) == (7, "")
    assert out.splitlines()[-1] == f"from {root}/in/side"


def test_another_aicert_is_not_run(repository: Repository) -> None:
    assert repository.run("certify")[0] == 7
    repository.install("2")
    code, out, err = repository.run("certify")
    assert (code, out) == (3, "")
    assert "error: the aicert installed in " in err
    assert " is not the one that this repository records" in err
    assert "aicert init --upgrade" in err


def test_without_an_aicert_it_says_what_to_install(repository: Repository) -> None:
    shutil.rmtree(repository.packages / contents.HOME)
    code, out, err = repository.run("certify")
    assert (code, out) == (3, "")
    assert "error: no Python here has the aicert that lockfiles/tool.toml records" in err
    assert "hint: pip install './CHECKOUT[build]'" in err


def test_an_aicert_of_the_repository_is_not_taken_for_ours(repository: Repository) -> None:
    """`-P` is needed: the current folder must not provide modules."""
    (repository.root / "aicert").mkdir()
    (repository.root / "aicert/__init__.py").write_text("raise SystemExit('theirs')\n")
    (repository.root / "aicert_build").mkdir()
    assert repository.run("certify")[0] == 7


def added(name: str, ours: Path) -> list[str]:
    lines = (ours.read_text().splitlines(), (STARTER / name).read_text().splitlines())
    changes = [line for line in difflib.ndiff(*lines) if line[0] in "+-"]
    removed = [line[2:] for line in changes if line[0] == "-"]
    renamed = [line.replace("aicert-review", "review").replace("aicert review", "review")
               for line in (each[2:] for each in changes if each[0] == "+")]  # fmt: skip
    return [line for line in renamed if line not in removed]


def test_the_workflows_are_ours_but_for_the_names_and_the_set_up() -> None:
    workflows = ROOT / ".github/workflows"
    assert added("review-comment.yml", workflows / "review-comment.yml") == []
    own = [line.strip() for line in added("review.yml", workflows / "review.yml")]
    assert own[0] == "- name: Install aicert"
    assert own[-2:] == ["", "run: ./doit help > /dev/null"]
    assert len(own) == 14


def test_everything_that_init_writes_is_there() -> None:
    names = {*init.OURS.values(), *init.THEIRS.values(), *init.LINES.values()} - {init.TOOL}
    assert {f"{contents.HOME}/{name}" for name in names} <= set(contents.installed(ROOT))
    folder = {path.name for path in STARTER.iterdir()}
    assert {f"rules/starter/{name}" for name in folder} == {n for n in names if "starter" in n}
