"""Read the config of a merge: two of Axolotl's keys, each naming an input (docs/spec/merge.md)."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from aicert.formats.lockfile import CONFIG_INPUT, Lockfile, input_code
from enclave_runner.axolotl import strict_yaml
from enclave_runner.inputs.references import Reference

BASE, ADAPTER = "base_model", "lora_model_dir"
_ROLES = {BASE: "model", ADAPTER: "adapter"}
_REFERENCE = re.compile(r"input:([a-z0-9][a-z0-9-]{0,62})(?:/(.+))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The two inputs of a merge: the adapter, and the base that it is merged into."""

    base: Reference
    adapter: Reference


def check(lockfile: Lockfile) -> None:
    """Refuse a lockfile that asks for anything that a merge cannot have. Raises ConfigError."""
    if len(lockfile.outputs) != 1:
        raise ConfigError("a merge makes exactly one output")
    if lockfile.ranks != 1:
        raise ConfigError("a merge is a single process", hint="remove `ranks`")
    for word, name in input_code(lockfile):
        raise ConfigError(f"a merge does not run inputs' code: {word} of {name}")


def read(data: bytes, folders: Mapping[str, bool]) -> Settings:
    """Read the config, and check that it names exactly the run's inputs. Raises ConfigError.

    `folders`: for each input of the run, whether it is a folder.
    """
    try:
        document = strict_yaml.load(data)
    except strict_yaml.YamlError as error:
        raise ConfigError(f"config: {error.message}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"config: not a mapping of {BASE} and {ADAPTER}")
    for key in document:
        if key not in _ROLES:
            close = difflib.get_close_matches(str(key), _ROLES, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"a merge has {BASE} and {ADAPTER}"
            raise ConfigError(f"config: {str(key)[:80]!a}: a merge has no such key", hint=hint)
    base, adapter = (_reference(key, document.get(key), folders) for key in (BASE, ADAPTER))
    if base.place == adapter.place:
        raise ConfigError(f"config: {ADAPTER}: this is the same input as {BASE}")
    unused = folders.keys() - {CONFIG_INPUT, base.name, adapter.name}
    if unused:
        raise ConfigError(
            "a merge reads a base and an adapter, but the run has other inputs: "
            + ", ".join(sorted(unused)),
            hint="remove them from the run's inputs",
        )
    return Settings(base=base, adapter=adapter)


def _reference(key: str, value: object, folders: Mapping[str, bool]) -> Reference:
    names = ", ".join(sorted(folders.keys() - {CONFIG_INPUT}))
    hint = f"write `{key}: input:NAME`, where NAME is one of: {names}"
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f"config: {key}: must be an `input:` reference", hint=hint)
    name, inside = match[1], match[2] or ""
    if name not in folders or name == CONFIG_INPUT:
        raise ConfigError(f"config: {key}: the run declares no input {name!r}", hint=hint)
    if not folders[name]:
        raise ConfigError(f"config: {key}: input {name!r} is a file, but a model is a folder")
    if any(part in ("", ".", "..") for part in inside.split("/") if match[2]):
        raise ConfigError(f"config: {key}: {inside[:80]!a} is not a path in an input")
    return Reference(key=key, name=name, inside=inside, role=_ROLES[key])
