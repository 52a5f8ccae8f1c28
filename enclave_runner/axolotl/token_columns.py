"""Refuse rows that have tokens beside their text if the data set's `type` says that text is read.

Axolotl trains on the tokens of such rows whatever the `type`, so somebody who reads the text of the
rows would not read what is trained on.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from enclave_runner.axolotl.config_rules import ConfigRefused

# If a data set has all of these columns, Axolotl takes its rows for tokenised.
TOKENS = ("input_ids", "attention_mask", "labels")
_KEYS = ("datasets", "test_datasets", "pretraining_dataset")
# With this key, Axolotl passes rows on unchanged, and its trainers train on any column of tokens.
_UNPREPARED = "skip_prepare_dataset"
_IDS = "_ids"


def check(config: bytes, columns: Mapping[str, Collection[str]]) -> None:
    """Raise ConfigRefused if a data set of the effective config has both a type and tokens.

    `columns`: the names of columns of canonical rows, by the place that the config names.
    """
    settings = json.loads(config)
    prepared = bool(settings.get("rl")) or not settings.get(_UNPREPARED)
    for key in _KEYS:
        value = settings.get(key)
        entries = value if isinstance(value, list) else [value] if value else []
        for index, entry in enumerate(entries):
            # Pretraining reads text, with or without a type.
            place, kind = (
                (entry["path"], entry.get("type")) if isinstance(entry, dict) else (entry, None)
            )
            tokens = _tokens(columns.get(place, ()), prepared=prepared)
            if tokens and (kind or key == "pretraining_dataset"):
                raise ConfigRefused(
                    f"{key}[{index}].type",
                    f"the rows hold {', '.join(tokens)}, which Axolotl trains on whatever the type",
                    hint="leave `type` empty to train on the tokens, or remove those columns",
                )


def _tokens(columns: Collection[str], *, prepared: bool) -> tuple[str, ...]:
    """Return the columns that would be trained on instead of the text beside them."""
    if prepared:
        return TOKENS if set(TOKENS) <= set(columns) else ()
    return tuple(name for name in columns if name.endswith(_IDS))
