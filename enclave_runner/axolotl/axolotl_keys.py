"""Write `axolotl_keys.json`: every key that the locked Axolotl reads, at every level, which of the
first level take numbers only, its dataset types, and the types of models that Transformers has.

Runs with the training environment's Python and prints to stdout; a test demands that the
committed file is what this prints. Axolotl ignores keys that it does not know, so what is absent
here is refused. A dataset type names code; only code inside Axolotl's own `prompt_strategies` is
listed.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import sys
import typing
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

from axolotl.utils.schemas.config import AxolotlInputConfig, BaseModel

STRATEGIES = "axolotl.prompt_strategies"
# Sub-packages whose members are named by a function: `chatml.intel` under `rl: dpo`.
BY_FUNCTION = ("dpo", "kto", "orpo", "ebft")
NUMBERS = {
    frozenset((int,)): "a whole number",
    frozenset((float,)): "a number",
    frozenset((int, float)): "a number",
}
HELPERS = ("base", "jinja_template_analyzer")


def models_in(annotation: object) -> Iterator[Any]:
    """Every pydantic model that a field of this type may hold."""
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from models_in(part)


def names_of(name: str, field: Any) -> Iterator[str]:
    """The key of a pydantic field, and its aliases."""
    yield name
    for alias in (field.alias, field.validation_alias):
        if isinstance(alias, str):
            yield alias
        elif alias is not None:
            yield from (choice for choice in alias.choices if isinstance(choice, str))


def schema(root: Any) -> dict[str, dict[str, list[str]]]:
    """Model name -> key -> names of the models that a mapping under that key may be."""
    found: dict[str, dict[str, list[str]]] = {}
    waiting = [root]
    while waiting:
        model = waiting.pop()
        if model.__name__ in found:
            continue
        keys: dict[str, list[str]] = {}
        for name, field in model.model_fields.items():
            below = list(models_in(field.annotation))
            waiting.extend(below)
            for key in names_of(name, field):
                keys[key] = sorted({each.__name__ for each in below})
        found[model.__name__] = keys
    return found


def numbers(root: Any) -> dict[str, str]:
    """Key -> what Axolotl wants there, of those that take nothing but numbers.

    Not truth values: validators of Axolotl's take any text for some.
    """
    found: dict[str, str] = {}
    for name, field in root.model_fields.items():
        kinds = frozenset(typing.get_args(field.annotation) or (field.annotation,)) - {type(None)}
        if kinds in NUMBERS:
            found |= dict.fromkeys(names_of(name, field), NUMBERS[kinds])
    return found


def functions(module: ModuleType) -> Iterator[str]:
    """The public functions that the module itself defines."""
    for name, value in vars(module).items():
        own = inspect.isfunction(value) and value.__module__ == module.__name__
        if own and not name.startswith("_"):
            yield name


def dataset_types() -> list[str]:
    """What `type:` of a dataset may say."""
    from axolotl.utils.data.wrappers import DATASET_HANDLERS

    found = set(DATASET_HANDLERS)
    # The styles that the prompters of those handlers know (`alpaca:chat`).
    found |= {f"{base}:{style}" for base in DATASET_HANDLERS for style in ("instruct", "chat")}
    package = import_module(STRATEGIES)
    for info in pkgutil.walk_packages(package.__path__, STRATEGIES + "."):
        dotted = info.name.removeprefix(STRATEGIES + ".")
        first, _, rest = dotted.partition(".")
        if info.ispkg or dotted in HELPERS:
            continue
        module = import_module(info.name)
        if first in BY_FUNCTION:
            found |= {rest} | {f"{rest}.{name}" for name in functions(module)}
        elif first != "messages":
            loaders = {name for name in functions(module) if name.startswith("load")}
            found |= {dotted} | {f"{dotted}.{name}" for name in loaders}
    return sorted(found)


def model_types() -> list[str]:
    """What `model_type` of a model may say where no code comes with it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return sorted(CONFIG_MAPPING_NAMES)


def main() -> int:
    """Print the file."""
    content = {
        "axolotl": version("axolotl"),
        "root": AxolotlInputConfig.__name__,
        "models": schema(AxolotlInputConfig),
        "numbers": numbers(AxolotlInputConfig),
        "datasetTypes": dataset_types(),
        "modelTypes": model_types(),
    }
    json.dump(content, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
