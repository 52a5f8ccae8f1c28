"""Read the config of a merge: two of Axolotl's keys, each naming an input (docs/spec/merge.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from aicert.formats.lockfile import CONFIG_INPUT
from enclave_runner.axolotl import strict_yaml
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.shared_refusals import require_all_named, require_known_keys

TRAINER = "a merge"
BASE, ADAPTER = "base_model", "lora_model_dir"
_ROLES = {BASE: "model", ADAPTER: "adapter"}
_REFERENCE = re.compile(r"input:([a-z0-9][a-z0-9-]{0,62})(?:/(.+))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The two inputs of a merge: the adapter, and the base that it is merged into."""

    base: Reference
    adapter: Reference


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
    require_known_keys(TRAINER, document, _ROLES, hint=f"a merge has {BASE} and {ADAPTER}")
    base, adapter = (_reference(key, document.get(key), folders) for key in (BASE, ADAPTER))
    if base.place == adapter.place:
        raise ConfigError(f"config: {ADAPTER}: this is the same input as {BASE}")
    require_all_named(TRAINER, {base.name, adapter.name}, folders)
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
