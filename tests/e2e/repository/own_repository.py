"""A person with their own repository, who installed aicert from this checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from rules.example import example
from rules.host import training_env
from tests.e2e.conftest import LIMIT_S, REPOSITORY

AUTHOR = "-c user.name=t -c user.email=t@example.org"


def readme_lines() -> list[str]:
    section = (REPOSITORY / "README.md").read_text().partition("\n## In your own repository\n")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block
    lines = [line.partition(" #")[0].rstrip() for line in block[1].splitlines()]
    assert len(lines) == 7
    return [line.replace("./CHECKOUT", str(REPOSITORY)) for line in lines]


@dataclass(frozen=True, kw_only=True)
class Person:
    """A shell with an active virtual environment, in a repository."""

    root: Path
    environment: dict[str, str]

    def run(self, line: str, *, limit: float = LIMIT_S) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-euc", line],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=limit,
        )

    def done(self, line: str) -> str:
        ended = self.run(line)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def install(self, line: str) -> None:
        """All dependencies are here already, except for environments that no test has made yet."""
        self.done(f"export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 PIP_NO_CACHE_DIR=1; {line}")


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Return a person with an empty virtual environment that sees the libraries of this
    environment.
    """
    venv = tmp_path / "venv"
    python = os.path.realpath(sys.executable)
    subprocess.run([python, "-I", "-m", "venv", venv], check=True)
    packages = next(venv.glob("lib/python*/site-packages"))
    for old in (*packages.glob("setuptools*"), *packages.glob("pkg_resources")):
        shutil.rmtree(old)
    (packages / "here.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    root = tmp_path / "a repository"
    root.mkdir()
    environment = os.environ | {
        "AICERT_CACHE": str(training_env.location(REPOSITORY).parents[1]),
        "AICERT_PYTHON": python,
        "VIRTUAL_ENV": str(venv),
        "PATH": f"{venv}/bin:{os.environ['PATH']}",
    }
    return Person(root=root, environment=environment)


def bring_inputs(root: Path) -> None:
    example.make_example(root)
    (root / example.MODEL).rename(root / "base")
    (root / example.DATA).rename(root / "rows")
    (root / "examples").rmdir()
    config = (REPOSITORY / "examples/tiny-alpaca.yml").read_text()
    config = config.replace("input:alpaca", "input:rows").replace("max_steps: 40", "max_steps: 2")
    (root / "train.yml").write_text(config)
