"""Read `axolotl_keys.json`: keys of the locked Axolotl, its plugins, dataset and model types."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_KEYS = Path(__file__).with_name("axolotl_keys.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class AxolotlKeys:
    """The content of `axolotl_keys.json`.

    `plugins`: plugin → the model of the keys that it adds. `dataset_models`: `rl` (empty if not
    set) → the model that Axolotl reads an entry of `datasets` into. `words`: key → every value that
    it may have.
    """

    root: str
    models: Mapping[str, Mapping[str, tuple[str, ...]]]
    dataset_types: tuple[str, ...]
    numbers: Mapping[str, str]
    words: Mapping[str, tuple[str, ...]]
    plugins: Mapping[str, str | None]
    spectrum_models: tuple[str, ...]
    dataset_models: Mapping[str, str]
    model_types: frozenset[str]


@functools.cache
def axolotl_keys() -> AxolotlKeys:
    """Return the committed tables. The file is read only once."""
    content = json.loads(_KEYS.read_bytes())
    models = {
        name: {key: tuple(below) for key, below in keys.items()}
        for name, keys in content["models"].items()
    }
    types = tuple(content["datasetTypes"])
    return AxolotlKeys(
        root=content["root"],
        models=models,
        dataset_types=types,
        numbers=content["numbers"],
        words={key: tuple(words) for key, words in content["words"].items()},
        plugins=content["plugins"],
        spectrum_models=tuple(content["spectrumModels"]),
        dataset_models=content["datasetModels"],
        model_types=frozenset(content["modelTypes"]),
    )
