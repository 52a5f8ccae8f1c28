"""Read the config of a quantisation: an input, and names (docs/spec/quantise.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from enclave_runner.axolotl import strict_yaml
from enclave_runner.inputs import model_reference
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.shared_refusals import require_all_named, require_known_keys
from enclave_runner.llmcompressor.schemes import SCHEMES, Scheme

TRAINER = "a quantisation"
MODEL, SCHEME, IGNORE = "model", "scheme", "ignore"
_KEYS = (IGNORE, MODEL, SCHEME)
# The layer that turns a model's last numbers into tokens, and suffers most from rounding.
HEAD = "lm_head"
# A layer has at least one dot in its name, or it is the head: without one, it could be a class.
_LAYER = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+|lm_head", re.ASCII)
_MAX_NAME = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A quantisation: the model, the scheme, and the layers that it leaves as they are."""

    model: Reference
    name: str
    ignore: tuple[str, ...]

    @property
    def scheme(self) -> Scheme:
        """The scheme of this name."""
        return SCHEMES[self.name]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The model alone."""
        return (self.model,)


def read(data: bytes, folders: Mapping[str, bool]) -> Settings:
    """Read the config, and check that it names exactly the run's inputs. Raises ConfigError.

    `folders`: for each input of the run, whether it is a folder.
    """
    document = strict_yaml.mapping(data, f"{MODEL} and {SCHEME}")
    require_known_keys(TRAINER, document, _KEYS, hint=f"it has {', '.join(_KEYS)}")
    model = model_reference.read(MODEL, document.get(MODEL), folders, "model")
    name = document.get(SCHEME)
    if not isinstance(name, str) or name not in SCHEMES:
        raise ConfigError(f"config: {SCHEME}: must be one of {', '.join(SCHEMES)}")
    ignore = document.get(IGNORE, [HEAD])
    if not isinstance(ignore, list):
        raise ConfigError(f"config: {IGNORE}: must be a list of layers' names")
    for index, layer in enumerate(ignore):
        if not isinstance(layer, str) or len(layer) > _MAX_NAME or not _LAYER.fullmatch(layer):
            raise ConfigError(
                f"config: {IGNORE}[{index}]: must be the whole name of a layer",
                hint="as model.layers.0.mlp.down_proj; patterns are not supported",
            )
    require_all_named(TRAINER, {model.name}, folders)
    return Settings(model=model, name=name, ignore=tuple(sorted(set(ignore))))
