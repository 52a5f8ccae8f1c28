"""A checkout of a small project of its own, for tests of DVC."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rules import dvc_env

REPOSITORY = Path(__file__).resolve().parents[2]
TOML = """\
[runs.tiny]
config = "path:tiny.yml"
machine = "here"
outputs = ["model"]
[runs.tiny.inputs]
data = "path:data"

[runs.again]
config = "path:again.yml"
machine = "here"
outputs = ["model"]
[runs.again.inputs]
same = "path:data"

[machines.here]
driver = "local"
"""
CODE = (".dvc", ".gitattributes", "aicert", "dodo.py", "doit", "enclave_runner", "pyproject.toml",
        "rules")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A checkout of the test's own project with this repository's code."""

    root: Path

    def run(self, *command: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.root,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def doit(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        cache = dvc_env.location().parents[1]
        return self.run(self.root / "doit", *arguments, AICERT_CACHE=str(cache))

    def done(self, *command: str | Path) -> str:
        ended = self.run(*command)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    def dvc(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """DVC itself, without us."""
        return self.run(dvc_env.program(), *arguments)

    def commit(self, message: str) -> None:
        self.done("git", "add", "--all")
        author = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        self.done("git", *author, "commit", "--quiet", "--message", message)

    def forget_bytes(self) -> None:
        """As if nothing had ever been pulled here."""
        for name in ("data", "outputs", ".dvc/cache", ".dvc/tmp"):
            shutil.rmtree(self.root / name, ignore_errors=True)
