"""Write `axolotl_keys.json`, the tables of what the locked Axolotl reads from a config.

They list every key at every level; the first-level keys that take only numbers or words of a closed
list; the keys that Axolotl's own plugins add; its dataset types; the model that each `rl` uses for
a data set; and the model types that Transformers has.

The program runs with the training environment's Python and prints to stdout; a test compares the
committed file with this output. Axolotl ignores keys that it does not know, so the runner refuses
every key that is not listed here. A dataset type names code; only code inside Axolotl's own
`prompt_strategies` is listed.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import pkgutil
import sys
import typing
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from axolotl.integrations.base import BasePlugin
from axolotl.prompters import PromptStyle
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.config import AxolotlInputConfig, BaseModel
from axolotl.utils.schemas.enums import CustomSupportedOptimizers, RLType

INTEGRATIONS = "axolotl.integrations"
# Axolotl removes this prefix from the keys of this model before it reads them, except from
# `fsdp_version`.
PREFIXED = {"FSDPConfig": "fsdp_"}
STRATEGIES = "axolotl.prompt_strategies"
# Sub-packages in which a type names a module and a function: `chatml.intel` under `rl: dpo`.
BY_FUNCTION = ("dpo", "kto", "orpo", "ebft")
NUMBERS = {
    frozenset((int,)): "a whole number",
    frozenset((float,)): "a number",
    frozenset((int, float)): "a number",
}
# Axolotl types these keys as text, and a validator turns the text into a number.
NUMBERS_AS_TEXT = {"learning_rate": "a number"}
# No type of Axolotl's lists these words; `validate_adapter` and `core/builders/base.py` name them.
ADAPTERS = ("llama-adapter", "lora", "qlora")
SCHEDULERS = ("one_cycle", "rex")
HELPERS = ("base", "jinja_template_analyzer")


def models_in(annotation: object) -> Iterator[Any]:
    """Yield every pydantic model that a field of this type may hold."""
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from models_in(part)


def names_of(name: str, field: Any) -> Iterator[str]:
    """Yield the key of a pydantic field, and its aliases."""
    yield name
    for alias in (field.alias, field.validation_alias):
        if isinstance(alias, str):
            yield alias
        elif alias is not None:
            yield from (choice for choice in alias.choices if isinstance(choice, str))


def schema(roots: list[Any]) -> dict[str, dict[str, list[str]]]:
    """Return model name -> key -> names of the models that a mapping under that key may be."""
    models: dict[str, dict[str, list[str]]] = {}
    waiting = list(roots)
    while waiting:
        model = waiting.pop()
        if model.__name__ in models:
            continue
        keys: dict[str, list[str]] = {}
        for name, field in model.model_fields.items():
            below = list(models_in(field.annotation))
            waiting.extend(below)
            for key in names_of(name, field):
                keys[key] = sorted({each.__name__ for each in below})
        prefix = PREFIXED.get(model.__name__)
        if prefix is not None:
            keys |= {prefix + key: keys[key] for key in keys if not key.startswith(prefix)}
        models[model.__name__] = keys
    return models


def numbers(root: Any) -> dict[str, str]:
    """Return key -> the kind of number that Axolotl wants, for keys that take only numbers.

    Booleans are left out, since Axolotl's validators accept any text for some of them.
    """
    number_keys = dict(NUMBERS_AS_TEXT)
    for name, field in root.model_fields.items():
        kinds = frozenset(typing.get_args(field.annotation) or (field.annotation,)) - {type(None)}
        if kinds in NUMBERS:
            number_keys |= dict.fromkeys(names_of(name, field), NUMBERS[kinds])
    return number_keys


def words(root: Any) -> dict[str, list[str]]:
    """Return key -> the words that Axolotl accepts there, for keys that accept nothing else."""
    valid_words: dict[str, list[str]] = {}
    for name, field in root.model_fields.items():
        kinds = [
            kind
            for kind in (typing.get_args(field.annotation) or (field.annotation,))
            if kind is not type(None)
        ]
        if typing.get_origin(field.annotation) is typing.Literal:
            kinds = [field.annotation]
        valid: set[object] = set()
        for kind in kinds:
            if inspect.isclass(kind) and issubclass(kind, enum.Enum):
                valid |= {each.value for each in kind}
            elif typing.get_origin(kind) is typing.Literal:
                valid |= set(typing.get_args(kind))
            else:
                break
        else:
            if all(isinstance(each, str) for each in valid):
                valid_words |= dict.fromkeys(names_of(name, field), sorted(map(str, valid)))
    optimizers = {
        each.value for kind in (OptimizerNames, CustomSupportedOptimizers) for each in kind
    }
    return valid_words | {
        "adapter": sorted(ADAPTERS),
        "lr_scheduler": sorted({*SCHEDULERS, *(each.value for each in SchedulerType)}),
        "optimizer": sorted(optimizers),
    }


def plugins() -> dict[str, Any]:
    """Return each of Axolotl's own plugins that can be imported -> the model of its keys."""
    models: dict[str, Any] = {}
    for info in pkgutil.iter_modules(import_module(INTEGRATIONS).__path__, INTEGRATIONS + "."):
        if not info.ispkg:
            continue
        try:
            package = import_module(info.name)
        except ImportError:  # The plugin needs a package that the environment does not have.
            continue
        for name, value in tuple(vars(package).items()):
            own = inspect.isclass(value) and value.__module__.startswith(info.name)
            if own and issubclass(value, BasePlugin):
                place = value().get_input_args()
                module, _, model = (place or "").rpartition(".")
                models[f"{info.name}.{name}"] = getattr(import_module(module), model, None)
    return models


def spectrum_models() -> list[str]:
    """Return the models for which the plugin Spectrum has measurements, as it spells them."""
    package = Path(import_module(f"{INTEGRATIONS}.spectrum").__path__[0])
    start = "snr_results_"
    files = (package / "model_snr_results").glob(f"{start}*.json")
    return sorted(path.stem.removeprefix(start) for path in files)


def dataset_models() -> dict[str, str]:
    """Return `rl` -> the model that Axolotl reads an entry of `datasets` into.

    Keys that the model does not have are lost.
    """
    models = {}
    for rl in ("", *(each.value for each in RLType)):
        settings = DictDefault({"rl": rl or None, "datasets": [{"path": "x"}]})
        # Axolotl converts the entries first, so it does not matter what else this config lacks.
        with contextlib.suppress(ValueError):
            validate_config(settings)
        models[rl] = type(settings["datasets"][0]).__name__
    return models


def functions(module: ModuleType) -> Iterator[str]:
    """Yield the names of the public functions that the module itself defines."""
    for name, value in vars(module).items():
        own = inspect.isfunction(value) and value.__module__ == module.__name__
        if own and not name.startswith("_"):
            yield name


def dataset_types() -> list[str]:
    """Return the values that `type:` of a dataset may have."""
    from axolotl.utils.data.wrappers import DATASET_HANDLERS

    types = set(DATASET_HANDLERS)
    # A type may also name a style that the prompters of these handlers know (`alpaca:chat`).
    types |= {f"{base}:{style.value}" for base in DATASET_HANDLERS for style in PromptStyle}
    package = import_module(STRATEGIES)
    for info in pkgutil.walk_packages(package.__path__, STRATEGIES + "."):
        dotted = info.name.removeprefix(STRATEGIES + ".")
        first, _, rest = dotted.partition(".")
        if info.ispkg or dotted in HELPERS:
            continue
        module = import_module(info.name)
        if first in BY_FUNCTION:
            types |= {rest} | {f"{rest}.{name}" for name in functions(module)}
        elif first != "messages":
            loaders = {name for name in functions(module) if name.startswith("load")}
            types |= {dotted} | {f"{dotted}.{name}" for name in loaders}
    return sorted(types)


def model_types() -> list[str]:
    """Return the values that a model's `model_type` may have if no code comes with the model."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return sorted(CONFIG_MAPPING_NAMES)


def main() -> int:
    """Print the content of the file."""
    own = plugins()
    added = [model for model in own.values() if model is not None]
    content = {
        "axolotl": version("axolotl"),
        "root": AxolotlInputConfig.__name__,
        "models": schema([AxolotlInputConfig, *added]),
        "plugins": {name: model and model.__name__ for name, model in own.items()},
        "spectrumModels": spectrum_models(),
        "datasetModels": dataset_models(),
        "words": words(AxolotlInputConfig),
        "numbers": numbers(AxolotlInputConfig),
        "datasetTypes": dataset_types(),
        "modelTypes": model_types(),
    }
    json.dump(content, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
