"""Rows that hold tokens beside text: refused where a data set's `type` says that its text is read.

Axolotl trains on the tokens of such rows whatever the `type`, so whoever reads the rows as it says
would read another text than the one that is trained on.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from enclave_runner.axolotl.config_rules import ConfigRefused

# Where a data set has them all, Axolotl takes its rows for tokenised.
TOKENS = ("input_ids", "attention_mask", "labels")
_KEYS = ("datasets", "test_datasets")


def check(config: bytes, columns: Mapping[str, Collection[str]]) -> None:
    """Raise ConfigRefused for a data set of the effective config with a type and with tokens.

    `columns`: those of the canonical rows, by the place that the config names.
    """
    settings = json.loads(config)
    for key in _KEYS:
        for index, entry in enumerate(settings.get(key) or ()):
            if entry.get("type") and set(TOKENS) <= set(columns.get(entry["path"], ())):
                raise ConfigRefused(
                    f"{key}[{index}].type",
                    f"the rows hold {', '.join(TOKENS)}, which Axolotl trains on whatever the type",
                    hint="leave `type` empty to train on the tokens, or remove those columns",
                )
