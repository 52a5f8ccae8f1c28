"""Read the config of a merge: two of Axolotl's keys, each naming an input (docs/spec/merge.md)."""

from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from enclave_runner.axolotl import strict_yaml
from enclave_runner.inputs import model_reference
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.shared_refusals import require_all_named, require_known_keys

TRAINER = "a merge"
BASE, ADAPTER = "base_model", "lora_model_dir"
_ROLES = {BASE: "model", ADAPTER: "adapter"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The two inputs of a merge: the adapter, and the base that it is merged into."""

    base: Reference
    adapter: Reference

    @property
    def references(self) -> tuple[Reference, ...]:
        """Both inputs."""
        return self.base, self.adapter


def read(data: bytes, folders: Mapping[str, bool]) -> Settings:
    """Read the config, and check that it names exactly the run's inputs. Raises ConfigError.

    `folders`: for each input of the run, whether it is a folder.
    """
    document = strict_yaml.mapping(data, f"{BASE} and {ADAPTER}")
    require_known_keys(TRAINER, document, _ROLES, hint=f"a merge has {BASE} and {ADAPTER}")
    base, adapter = (
        model_reference.read(key, document.get(key), folders, _ROLES[key])
        for key in (BASE, ADAPTER)
    )
    if base.place == adapter.place:
        raise ConfigError(f"config: {ADAPTER}: this is the same input as {BASE}")
    require_all_named(TRAINER, {base.name, adapter.name}, folders)
    return Settings(base=base, adapter=adapter)
