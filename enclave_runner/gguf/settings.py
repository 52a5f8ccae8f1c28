"""Read the config of a conversion: the model, and the type of its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from enclave_runner.axolotl import strict_yaml
from enclave_runner.inputs import model_reference
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.shared_refusals import require_all_named, require_known_keys

TRAINER = "a conversion"
MODEL, TYPE = "model", "type"
# The config's names of types → ggml's name of the type, and llama.cpp's number for a file of it
# (`llama_ftype` in llama.h).
TYPES: Mapping[str, tuple[str, int]] = {
    "bf16": ("BF16", 32),
    "f16": ("F16", 1),
    "f32": ("F32", 0),
    "q8_0": ("Q8_0", 7),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A conversion. `type` is one of TYPES."""

    model: Reference
    type: str

    @property
    def references(self) -> tuple[Reference, ...]:
        """The one input."""
        return (self.model,)

    @property
    def stored(self) -> str:
        """ggml's name of the type in which matrices are stored."""
        return TYPES[self.type][0]


def read(data: bytes, folders: Mapping[str, bool]) -> Settings:
    """Read the config, and check that it names exactly the run's inputs. Raises ConfigError.

    `folders`: for each input of the run, whether it is a folder.
    """
    document = strict_yaml.mapping(data, f"{MODEL} and {TYPE}")
    require_known_keys(TRAINER, document, (MODEL, TYPE), hint=f"it has {MODEL} and {TYPE}")
    model = model_reference.read(MODEL, document.get(MODEL), folders, "model")
    kind = document.get(TYPE)
    if not isinstance(kind, str) or kind not in TYPES:
        raise ConfigError(f"config: {TYPE}: must be one of {', '.join(TYPES)}")
    require_all_named(TRAINER, {model.name}, folders)
    return Settings(model=model, type=kind)
