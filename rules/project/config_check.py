"""The runner's refusals of a training config and of models, early: before a lockfile is written or
a machine is started. For comfort only: the runner decides again, inside.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from aicert.errors import ConfigError, LockError, ToolError
from aicert.formats.listing import parse_listing
from aicert.formats.lockfile import CONFIG_INPUT
from rules.project.locked import Lock

CODE = Path(__file__).resolve().parents[2]


def check_config(root: Path, lock: Lock) -> None:
    """Refuse what the runner would refuse of this config, of the names of these inputs' files, and
    of models whose bytes are at hand.

    A config that has not been fetched yet is left to `certify`, which fetches it.
    """
    path = lock.paths[CONFIG_INPUT]
    if not path.is_file():
        return
    inputs: dict[str, dict[str, object]] = {}
    for item in lock.lockfile.inputs:
        if item.name != CONFIG_INPUT:
            data = lock.listings.get(item.name)
            inputs[item.name] = {
                "files": None if data is None else dict(parse_listing(data)),
                # Chosen files lie among others.
                "path": None if item.name in lock.parts else str(lock.paths[item.name]),
                "allowPickle": item.allow_pickle,
            }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "enclave_runner.axolotl.check", f"--config={path}"],
        input=json.dumps(inputs),
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(CODE), "PATH": os.environ.get("PATH", os.defpath)},
    )
    if done.returncode == 0:
        return
    try:
        told = json.loads(done.stdout)
        message, hint = str(told["message"]), told["hint"]
    except (ValueError, KeyError, TypeError):
        raise ToolError(f"the config could not be checked\n{done.stderr[-2000:]}") from None
    if not message.startswith("config: "):
        raise LockError(f"run {lock.lockfile.run}: {message}", hint=hint)
    inside = path.is_relative_to(root.resolve())
    where = path.relative_to(root.resolve()) if inside else lock.lockfile.input(CONFIG_INPUT).uri
    raise ConfigError(f"run {lock.lockfile.run}: {where}: {message}", hint=hint)
