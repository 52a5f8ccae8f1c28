"""Read a config's `input:NAME/FOLDER` as the model or adapter that it names."""

import re
from collections.abc import Mapping

from aicert.errors import ConfigError
from aicert.formats.lockfile import CONFIG_INPUT
from enclave_runner.inputs.references import Reference

_REFERENCE = re.compile(r"input:([a-z0-9][a-z0-9-]{0,62})(?:/(.+))?")


def read(key: str, value: object, folders: Mapping[str, bool], role: str) -> Reference:
    """Return the reference. `folders`: for each input of the run, whether it is a folder.

    Raises ConfigError.
    """
    name, inside = parts(key, value, folders)
    if not folders[name]:
        raise ConfigError(f"config: {key}: input {name!r} is a file, but a model is a folder")
    return Reference(key=key, name=name, inside=inside, role=role)


def parts(key: str, value: object, folders: Mapping[str, bool]) -> tuple[str, str]:
    """Return the input that a value of the config names, and the path in it. Raises ConfigError."""
    names = ", ".join(sorted(folders.keys() - {CONFIG_INPUT}))
    hint = f"write `{key}: input:NAME`, where NAME is one of: {names}"
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f"config: {key}: must be an `input:` reference", hint=hint)
    name, inside = match[1], match[2] or ""
    if name not in folders or name == CONFIG_INPUT:
        raise ConfigError(f"config: {key}: the run declares no input {name!r}", hint=hint)
    if any(part in ("", ".", "..") for part in inside.split("/") if match[2]):
        raise ConfigError(f"config: {key}: {inside[:80]!a} is not a path in an input")
    return name, inside
