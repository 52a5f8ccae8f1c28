"""An environment with the real frameworks and the guard's `.pth`, and programs that load files in
it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from aicert.cli.main import main
from rules.example import model, rows

ROOT = Path(__file__).resolve().parents[3]
# A program reports its findings as one line of JSON, so that other output cannot be mixed up with
# it.
RESULTS = """
import json, os, sys
results = {}

def attempt(name, action):
    try:
        results[name] = f"went through: {action()!r:.200}"
    except BaseException as error:
        results[name] = f"{type(error).__name__}: {error}"

def done():
    print("\\n" + json.dumps(results), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A Python with the frameworks of the training environment, aicert, and the `.pth`."""

    folder: Path
    python: Path

    def aicert(
        self, *words: str, more: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.python), "-m", "aicert", *words, more=more)

    def variables(self, more: dict[str, str] | None = None) -> dict[str, str]:
        """Return the environment variables of programs that run here: no network, and a home of
        their own.
        """
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.folder),
            "HF_HOME": str(self.folder / "hf"),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **(more or {}),
        }

    def run(
        self, *words: str, more: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.variables(more),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
        )

    def attempts(
        self,
        text: str,
        *words: str,
        more: dict[str, str] | None = None,
        policy: str = "guard.toml",
    ) -> dict[str, str]:
        """Run a program under `aicert guard WORDS`. Returns the outcome of each of its attempts."""
        (self.folder / "attempts.py").write_text(RESULTS + text + "\ndone()\n")
        command = (str(self.python), "attempts.py")
        done = self.aicert("guard", "--policy", policy, *words, "--", *command, more=more)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))


def make(folder: Path, *frameworks: Path) -> Guarded:
    """Make an environment on top of others, which stay as they are; the training environment is
    first.
    """
    environment = folder / "environment"
    site = environment / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (environment / "bin").mkdir()
    base = Path(sys.base_prefix)
    python = environment / "bin" / "python"
    python.symlink_to(base / "bin" / "python3.11")
    (environment / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3.11\n")
    (site / "aicert").symlink_to(ROOT / "aicert")
    for name in ("cryptography", "cffi", "_cffi_backend"):
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        place = Path(str(spec.origin))
        place = place.parent if place.name == "__init__.py" else place
        (site / place.name).symlink_to(place)
    packages = [sysconfig.get_path("purelib", vars={"base": str(each)}) for each in frameworks]
    # Only their paths are added, so their start-up files do not run in this environment.
    (site / "frameworks.pth").write_text("\n".join(packages))
    guarded = Guarded(folder=folder, python=python)
    installed = guarded.aicert("guard", "--install")
    assert installed.returncode == 0, installed.stderr
    return guarded


def texts() -> list[str]:
    return [text for row in rows.rows() for text in (row.instruction, row.input, row.output)]


def sign(target: Path, key: Path) -> None:
    assert main(["sign", str(target), "--key", str(key)]) == 0


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True)
    return target


def tiny_model() -> dict[str, bytes]:
    """Return the files of the example's model, as a repository on a hub has them."""
    return model.model_files(texts())
