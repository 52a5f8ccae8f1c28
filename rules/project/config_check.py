"""Check a training config and models early, before a lockfile is written or a machine starts: with
the runner's own checks, and with Axolotl's if its environment exists here. This is only a
convenience: the runner and Axolotl check again in the machine.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from aicert.audits import config as audit_config
from aicert.errors import AicertError, ConfigError, LockError, ToolError
from aicert.files.bounded import read_bounded
from aicert.formats.listing import EMPTY_FILE_HEX, parse_listing
from aicert.formats.lockfile import CONFIG_INPUT, LockedInput, audit_input
from aicert.sources.placeholders import HEAD, refuse
from rules.host import progress, training_env
from rules.host.bootstrap import cache_directory
from rules.host.places import CODE
from rules.machines.machine import Machine
from rules.project.config import (
    AUDIT,
    AXOLOTL,
    CONVERT,
    EVALUATE,
    LLMCOMPRESSOR,
    LM_EVAL,
    MERGE,
    MERGEKIT,
)
from rules.project.config_hints import without_gpu
from rules.project.config_packages import lacking, locked_packages
from rules.project.locked import Lock

OWN_VALIDATION = Path(__file__).with_name("own_validation.py")
# The exit code with which that program refuses a config.
_REFUSED = 3
# The runner's module for checks, by trainer.
_CHECKS = {
    AXOLOTL: "enclave_runner.axolotl.check",
    CONVERT: "enclave_runner.gguf.check",
    EVALUATE: "enclave_runner.evaluate.check",
    LLMCOMPRESSOR: "enclave_runner.llmcompressor.check",
    LM_EVAL: "enclave_runner.lm_eval.check",
    MERGE: "enclave_runner.merge.check",
    MERGEKIT: "enclave_runner.mergekit.check",
}
# The inputs in a config, and refusals that depend on the files of a missing input.
_NAMED = re.compile(r"(?:^|[\s'\"\[{,:])input:([a-z0-9][a-z0-9-]{0,62})(?:/([^\s'\",\]}]+))?")
_BY_FILES = re.compile(
    r"config: \w*data\w*(\[\d+\])?\.(path|split|data_files|ds_type|name): |"
    r": input '[a-z0-9-]+' (holds no |is a file$|is a (file|folder), and has no )|"
    r"config: tasks: split \w+: the run declares no input "
)
# Axolotl does not train without these, besides `base_model`: one key from each line.
NEEDED = (("datasets", "pretraining_dataset"), ("learning_rate",))


def check_config(root: Path, lock: Lock, *, machine: Machine | None = None) -> str | None:
    """Return the effective config. Raises whatever the runner would raise about it, about the names
    of these inputs' files, and about models whose bytes are here. With a machine, print hints about
    packages and GPUs that it lacks.

    If the config has not been fetched yet, `certify` checks it after fetching. Only trainings and
    evaluations by loss have an effective config; for others it is None.
    """
    if lock.lockfile.trainer == AUDIT:
        _check_audit(root, lock)
        return None
    for audit in lock.lockfile.audits:
        _check_audit(root, lock, audit)
    answer = _by_the_runner(root, lock, gpu=machine is not None and machine.gpu)
    if not answer:
        return None
    dropped, _, effective = answer.partition("\n")
    if machine is not None:
        for asked in json.loads(dropped):
            why = "checkpoints are not kept, because only the final model is an output"
            progress.say(f"hint: run {lock.lockfile.run}: `{asked}` is dropped: {why}")
        for hint in _hints(json.loads(effective), machine):
            progress.say(f"hint: run {lock.lockfile.run}: {hint}")
    return effective


def check_alone(root: Path, lock: Lock, *, gpu: bool) -> None:
    """Refuse a config that `lock` would refuse whatever its inputs contain, and print which inputs
    the run lacks: they may be added, or replaced, afterwards.
    """
    config = lock.paths[CONFIG_INPUT]
    if lock.lockfile.trainer == AUDIT or config.suffix == ".toml" or not config.is_file():
        # An audit's config is TOML and has no effective form.
        return
    missing = _missing(lock)
    try:
        answer = _by_the_runner(root, lock, gpu=gpu, missing=missing)
    except ConfigError as error:
        if not _BY_FILES.search(error.message):
            raise
        answer = None
    effective = (answer or "").partition("\n")[2]
    # Without rows it may be a merge's config, with the trainer still to be set.
    if effective and any(json.loads(effective).get(key) for key in NEEDED[0]):
        check_values(root, lock, effective)
    for name in missing:
        progress.say(f"next: ./doit add {lock.lockfile.run} {name} SOURCE")


def _missing(lock: Lock) -> dict[str, frozenset[str]]:
    """Return the inputs that the config names and the run lacks: name → the files named in them."""
    there = {item.name for item in lock.lockfile.inputs}
    missing: dict[str, frozenset[str]] = {}
    text = lock.paths[CONFIG_INPUT].read_bytes().decode("utf-8", errors="replace")
    for line in text.splitlines():
        for name, inside in _NAMED.findall(line.partition(" #")[0]):
            if name not in there and not line.startswith("#"):
                missing[name] = missing.get(name, frozenset()) | ({inside} if inside else set())
    return missing


def _check_audit(root: Path, lock: Lock, audit: str | None = None) -> None:
    """Check an audit's config as the runner would. It has no effective form.

    `audit`: the audit that the run names, if the run is not an audit itself; its data are the
    run's.
    """
    _refuse_placeholders(lock)
    begin = "" if audit is None else audit_input(audit, "")
    config = f"{begin}{CONFIG_INPUT}"
    path = lock.paths[config]
    if not path.is_file():
        return
    sizes = {
        item.name.removeprefix(begin): item.size if item.digest.kind == "sha256" else None
        for item in lock.lockfile.inputs
        if item.name.startswith(begin)
    }
    check = audit_config.check_inputs if audit is None else audit_config.check_named
    try:
        data = read_bounded(path, audit_config.MAX_BYTES, "the audit's config")
        check(audit_config.parse(data), sizes)
    except AicertError as error:
        where = f"run {lock.lockfile.run}: {_named(root, lock, config)}"
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None


def _hints(settings: Mapping[str, object], machine: Machine) -> Iterator[str]:
    lacked = list(lacking(settings, locked_packages()))
    for each in lacked:
        yield (
            f"`{each.key}` needs the package {each.package}, which the training environment "
            f"lacks: write `{each.line}`"
        )
    if _may_have_gpu(machine):
        return
    keys = {each.key for each in lacked}
    for key, line in without_gpu(settings):
        if key not in keys:
            yield (f"machine {machine.name} has no GPU, which `{key}` may need: write `{line}`")


def check_values(root: Path, lock: Lock, effective: str) -> None:
    """Check the config with Axolotl's own validation if the training environment exists. Otherwise,
    only check that the keys required by every training are there.

    This takes seconds; a config that passed is remembered.
    """
    environment = training_env.location(root)
    if not training_env.is_complete(environment):
        _require_keys(root, lock, json.loads(effective))
        return
    identity = b"\0".join(
        (OWN_VALIDATION.read_bytes(), environment.name.encode(), effective.encode())
    )
    passed = cache_directory(root) / "configs" / hashlib.sha256(identity).hexdigest()
    if passed.exists():
        return
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [training_env.python(environment), "-P", OWN_VALIDATION],
            input=effective,
            capture_output=True,
            text=True,
            cwd=home,
            env={
                "AXOLOTL_DO_NOT_TRACK": "1",
                "CUDA_VISIBLE_DEVICES": "",
                "HF_HUB_OFFLINE": "1",
                "HOME": home,
                "OMP_NUM_THREADS": "1",
                "PATH": os.environ.get("PATH", os.defpath),
            },
        )
    if done.returncode == 0:
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()
        return
    if done.returncode != _REFUSED:
        reason = (done.stderr.strip() or "no reason").rpartition("\n")[2]
        progress.say(f"cannot check the config with Axolotl: {reason}")
        return
    words = "\n".join(line for line in done.stdout.splitlines() if line)
    raise ConfigError(
        f"run {lock.lockfile.run}: {_named(root, lock)}: Axolotl refuses the config:\n{words}"
    )


def _require_keys(root: Path, lock: Lock, settings: Mapping[str, object]) -> None:
    for one_of in NEEDED:
        if all(settings.get(key) is None for key in one_of):
            raise ConfigError(
                f"run {lock.lockfile.run}: {_named(root, lock)}: config: {one_of[0]}: missing",
                hint=f"Axolotl needs {' or '.join(f'`{key}`' for key in one_of)}",
            )


def _may_have_gpu(machine: Machine) -> bool:
    return machine.gpu or (not machine.driver.in_image and Path("/dev/nvidiactl").exists())


def _named(root: Path, lock: Lock, config: str = CONFIG_INPUT) -> str:
    path = lock.paths[config]
    inside = path.is_relative_to(root.resolve())
    return str(path.relative_to(root.resolve())) if inside else lock.lockfile.input(config).uri


def _by_the_runner(
    root: Path,
    lock: Lock,
    *,
    gpu: bool,
    missing: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> str | None:
    """Return a line about dropped keys, then the effective config; nothing for a merge. None if the
    config is not here yet.

    `missing`: inputs to treat as present, as folders with these files.
    """
    _refuse_placeholders(lock)
    path = lock.paths[CONFIG_INPUT]
    if not path.is_file():
        return None
    inputs: dict[str, dict[str, object]] = {
        name: {
            "files": dict.fromkeys(files or {"train.jsonl"}, EMPTY_FILE_HEX),
            "path": None,
            "allowPickle": True,
            "allowRemoteCode": True,
        }
        for name, files in missing.items()
    }
    for item in lock.lockfile.inputs:
        if item.name != CONFIG_INPUT:
            data = lock.listings.get(item.name)
            inputs[item.name] = {
                "files": None if data is None else dict(parse_listing(data)),
                # Chosen files are mixed with others there.
                "path": None if item.name in lock.parts else str(lock.paths[item.name]),
                "allowPickle": item.allow_pickle,
                "allowRemoteCode": item.allow_remote_code,
            }
    trainer = lock.lockfile.trainer
    kernels = ["--kernels"] if gpu and trainer == AXOLOTL else []
    done = subprocess.run(
        [sys.executable, "-P", "-m", _CHECKS[trainer], f"--config={path}", *kernels],
        input=json.dumps(inputs),
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(CODE), "PATH": os.environ.get("PATH", os.defpath)},
    )
    if done.returncode == 0:
        return done.stdout
    try:
        refusal = json.loads(done.stdout)
        message, hint = str(refusal["message"]), refusal["hint"]
    except (ValueError, KeyError, TypeError):
        raise ToolError(f"cannot check the config\n{done.stderr[-2000:]}") from None
    if not message.startswith("config: "):
        raise LockError(f"run {lock.lockfile.run}: {message}", hint=hint)
    raise ConfigError(f"run {lock.lockfile.run}: {_named(root, lock)}: {message}", hint=hint)


def _refuse_placeholders(lock: Lock) -> None:
    """Refuse pointers and web pages instead of files, in inputs whose bytes are here."""
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
    """Return the files of an input by name, and where they are or will be."""
    root, listing = lock.paths[item.name], lock.listings.get(item.name)
    if item.name in lock.parts:
        return lock.parts[item.name]
    if listing is not None:
        return {name: root / name for name in parse_listing(listing)}
    # In the store a file's name is its digest.
    name = item.uri.rpartition("#")[2].partition("?")[0].rpartition("/")[2]
    return {name: root}
