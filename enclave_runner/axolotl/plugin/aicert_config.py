"""Which keys of a config's data sets Axolotl's own validation has lost.

Axolotl silently drops keys if it reads an entry of `datasets` into a model that does not have them.
The runner refuses the cases that it knows (`config.py`); this compares, in the trainer and before
any row is read, the config with what Axolotl understood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ROWS = ("datasets", "test_datasets", "pretraining_dataset")
# Axolotl reads the first two as properties of a message. The canonical rows need no third.
RENAMED = frozenset(("message_field_role", "message_field_content"))
UNNEEDED = frozenset(("ds_type",))


def lost_keys(written: Mapping[str, Any], understood: Mapping[str, Any]) -> Iterator[str]:
    """Each key of an entry that has a value, but is missing in the validated config."""
    for kind in ROWS:
        entries, after = written.get(kind), understood.get(kind)
        if not isinstance(entries, list) or not isinstance(after, list):
            continue
        for index, (entry, read) in enumerate(zip(entries, after, strict=False)):
            for key, value in entry.items() if isinstance(entry, Mapping) else ():
                empty = value is None or value is False or value in ("", [], {})
                if not empty and key not in RENAMED | UNNEEDED and read.get(key) is None:
                    yield f"{kind}[{index}].{key}"
