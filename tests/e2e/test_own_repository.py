"""In one's own repository: from nothing to PASSED by the README's lines, and a second clone."""

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
# Names of ours and of libraries that we load: a repository may have modules called like these.
THEIRS = ("rules/__init__.py", "aicert.py", "enclave_runner.py", "rich.py", "tomlkit.py")


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

    def run(self, line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-euc", line],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
        )

    def done(self, line: str) -> str:
        ended = self.run(line)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
        return ended.stdout


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """An empty virtual environment, which sees the libraries that are here."""
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


@pytest.mark.slow
def test_from_an_empty_repository_to_passed_and_a_second_clone(
    person: Person, tmp_path: Path
) -> None:
    root = person.root
    person.done(f"git init --quiet && git {AUTHOR} commit --quiet --allow-empty --message empty")
    bring_inputs(root)
    for name in THEIRS:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("raise SystemExit('a module of the repository was imported')\n")
    install, *setting_up, verify = readme_lines()
    # What it needs is here; environments that no test has made yet come from the index.
    person.done(f"export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 PIP_NO_CACHE_DIR=1; {install}")
    for line in setting_up:
        person.done(line)
    assert "PASSED    (software: the operator could have forged this)" in person.done(verify)
    assert "nothing to do" in person.run("./doit certify").stderr
    person.done("./doit lock --check")
    assert "run my-run: new" in person.done("./doit review")

    tops = {line[3:] for line in person.done("git status --porcelain").splitlines()}
    ours = {"doit", "dodo.py", "aicert.toml", "lockfiles/", "certificates/", ".dvc/", ".github/"}
    theirs = {"base/", "rows/", "train.yml", "rules/", *THEIRS[1:]}
    assert tops == ours | theirs | {".gitignore", ".gitattributes"}

    person.done(f"git add --all && git {AUTHOR} commit --quiet --message first")
    person.done(f"./doit dvc remote add --default store {tmp_path}/store")
    person.done(f"./doit dvc push && git {AUTHOR} commit --quiet --all --message remote")
    person.done(f"git clone --quiet . {tmp_path}/second")
    second = Person(root=tmp_path / "second", environment=person.environment)
    second.done("./doit dvc pull")
    unknown = second.run(verify)
    assert unknown.returncode == 2, unknown.stdout + unknown.stderr
    fingerprint = re.search(r"sha256:[0-9a-f]{64}", person.done("./doit trust"))
    assert fingerprint
    second.done(f"./doit trust {fingerprint[0]}")
    assert "PASSED" in second.done(verify)
    assert "nothing to do" in second.run("./doit certify").stderr
