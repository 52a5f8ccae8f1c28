"""Environments of implementations that we did not write, each made once from its hashed lock.

They lie in the cache directory beside the others, under the digest of the lock; `complete`, written
last, marks one whole. Set-up needs the package registry; the tests themselves need no network.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rules import bootstrap, training_env

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("requirements.lock")
WORKFLOWS = Path(__file__).with_name("workflows.lock")


def python(lock: Path = LOCK, name: str = "oracles") -> Path:
    """The interpreter of the environment `name`."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    environments = bootstrap.cache_directory() / "envs"
    environment = environments / f"{name}-{digest[:12]}"
    interpreter = environment / "bin" / "python"
    if (environment / "complete").exists():
        return interpreter
    environments.mkdir(parents=True, exist_ok=True)
    with (environments / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            shutil.rmtree(environment, ignore_errors=True)
            base = training_env.find_python()
            subprocess.run([base, "-I", "-m", "venv", environment], check=True)
            pip = [str(interpreter), "-I", "-m", "pip", "install", "--quiet", "--require-hashes"]
            subprocess.run(
                [*pip, "--no-deps", "--disable-pip-version-check", "-r", str(lock)],
                check=True,
                stdout=sys.stderr,
            )
            (environment / "complete").touch()
    return interpreter


def run(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run Python `code` among the oracles, with no path to this repository."""
    command = [str(python()), "-I", "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def aicert(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Our own command line with the extras that this environment has (sigstore, python-pkcs11)."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from aicert.cli import main; "
    command = [str(python()), "-I", "-c", code + "sys.exit(main())", str(ROOT)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
    )


def model_signing(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """The reference implementation's command line."""
    command = [str(python()), "-I", "-W", "ignore", "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def workflow_checker(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A checker of GitHub's workflows, asking no network."""
    command = [python(WORKFLOWS, "workflows").with_name(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
