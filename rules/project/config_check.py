"""The runner's refusals of a training config and of models, early: before a lockfile is written or
a machine is started. For comfort only: the runner decides again, inside.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from aicert.errors import ConfigError, LockError, ToolError
from aicert.formats.listing import parse_listing
from aicert.formats.lockfile import CONFIG_INPUT, LockedInput
from aicert.sources.placeholders import HEAD, refuse
from rules.project.locked import Lock

CODE = Path(__file__).resolve().parents[2]


def check_config(root: Path, lock: Lock) -> None:
    """Refuse what the runner would refuse of this config, of the names of these inputs' files, and
    of models whose bytes are at hand.

    A config that has not been fetched yet is left to `certify`, which fetches it.
    """
    _refuse_placeholders(lock)
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
        refusal = json.loads(done.stdout)
        message, hint = str(refusal["message"]), refusal["hint"]
    except (ValueError, KeyError, TypeError):
        raise ToolError(f"the config could not be checked\n{done.stderr[-2000:]}") from None
    if not message.startswith("config: "):
        raise LockError(f"run {lock.lockfile.run}: {message}", hint=hint)
    inside = path.is_relative_to(root.resolve())
    where = path.relative_to(root.resolve()) if inside else lock.lockfile.input(CONFIG_INPUT).uri
    raise ConfigError(f"run {lock.lockfile.run}: {where}: {message}", hint=hint)


def _refuse_placeholders(lock: Lock) -> None:
    """Refuse pointers and pages in place of files, of the inputs whose bytes are at hand."""
    for item in lock.lockfile.inputs:
        for name, path in _files_of(lock, item).items():
            if not path.is_file():
                continue
            with path.open("rb") as file:
                head = file.read(HEAD)
            try:
                refuse(name, head)
            except LockError as error:
                message = f"input {item.name}: {error.message}"
                raise LockError(message, hint=error.hint) from None


def _files_of(lock: Lock, item: LockedInput) -> Mapping[str, Path]:
    """The files of an input by their names, and where they lie or will lie."""
    root, listing = lock.paths[item.name], lock.listings.get(item.name)
    if item.name in lock.parts:
        return lock.parts[item.name]
    if listing is not None:
        return {name: root / name for name in parse_listing(listing)}
    # In the store a file is named by its digest.
    name = item.uri.rpartition("#")[2].partition("?")[0].rpartition("/")[2]
    return {name: root}
