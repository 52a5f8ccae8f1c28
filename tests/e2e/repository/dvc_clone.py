"""A checkout of a small separate project, for tests of DVC."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rules.dvc import environment as dvc_env
from tests.adversarial.forger import FILES, Scene

REPOSITORY = Path(__file__).resolve().parents[3]
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
# The fewest settings that Axolotl accepts.
CONFIG = """\
learning_rate: 0.1
micro_batch_size: 1
gradient_accumulation_steps: 1
bf16: false
"""
# Folders and files that DVC keeps for itself.
OWN = {".dvc": ("cache", "tmp", "config.local")}


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A checkout of the small project, with this repository's code."""

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
        """Run DVC itself, without `./doit`."""
        return self.run(dvc_env.program(), *arguments)

    def commit(self, message: str) -> None:
        self.done("git", "add", "--all")
        author = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        self.done("git", *author, "commit", "--quiet", "--message", message)

    def forget_bytes(self) -> None:
        """Delete what was pulled, as in a fresh clone."""
        for name in ("data", "outputs", ".dvc/cache", ".dvc/tmp"):
            shutil.rmtree(self.root / name, ignore_errors=True)


def _config(name: str) -> str:
    return f"base_model: input:{name}\ndatasets: [{{path: input:{name}/sub}}]\n{CONFIG}"


def lay_out(root: Path) -> None:
    """Make the project in a new folder: code, inputs, and a run's outputs with a certificate."""
    root.mkdir()
    for name in CODE:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(
                REPOSITORY / name,
                root / name,
                ignore=shutil.ignore_patterns("__pycache__", *OWN.get(name, ())),
            )
        else:
            shutil.copy2(REPOSITORY / name, root / name)
    (root / ".venv").symlink_to(Path(sys.prefix).resolve())
    (root / ".gitignore").write_text("/.aicert/\n/.venv\n/outputs/\n/data/\n__pycache__/\n")
    (root / "aicert.toml").write_text(TOML)
    (root / "tiny.yml").write_text(_config("data"))
    (root / "again.yml").write_text(_config("same"))
    (root / "data" / "sub").mkdir(parents=True)
    for number in range(5):
        (root / "data" / "sub" / f"{number}.jsonl").write_text(f'{{"row": {number}}}\n' * 2000)
    (root / "data" / "readme.txt").write_text("rows\n")
    outputs = root / "outputs" / "tiny" / "model"
    outputs.mkdir(parents=True)
    for name, data in FILES.items():
        (outputs / name).write_bytes(data)
    certificate = root / "certificates" / "tiny" / "certificate.json"
    certificate.parent.mkdir(parents=True)
    certificate.write_bytes(Scene().get("file"))
