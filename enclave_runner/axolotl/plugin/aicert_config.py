"""Find keys of a config's data sets that Axolotl's own validation has lost.

Axolotl silently drops keys if it reads an entry of `datasets` into a model that does not have them.
The runner refuses the cases that it knows (`config.py`). This module compares the config with what
Axolotl understood, in the trainer and before any row is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ROWS = ("datasets", "test_datasets", "pretraining_dataset")
# Axolotl reads these as properties of a message.
RENAMED = frozenset(("message_field_role", "message_field_content"))
# Canonical rows do not need this key.
UNNEEDED = frozenset(("ds_type",))


def lost_keys(written: Mapping[str, Any], understood: Mapping[str, Any]) -> Iterator[str]:
    """Yield each key of an entry that has a value but is missing in the validated config."""
    for kind in ROWS:
        entries, after = written.get(kind), understood.get(kind)
        if not isinstance(entries, list) or not isinstance(after, list):
            continue
        for index, (entry, read) in enumerate(zip(entries, after, strict=False)):
            for key, value in entry.items() if isinstance(entry, Mapping) else ():
                empty = value is None or value is False or value in ("", [], {})
                if not empty and key not in RENAMED | UNNEEDED and read.get(key) is None:
                    yield f"{kind}[{index}].{key}"
