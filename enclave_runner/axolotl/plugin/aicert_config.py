"""What Axolotl's own validation has lost of a config's rows.

Axolotl drops keys without a word where an entry of its data sets is another model than the one that
has them. The runner refuses what it knows of that (`config.py`); this compares, in the trainer and
before any row is read, what was said with what was understood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ROWS = ("datasets", "test_datasets", "pretraining_dataset")
# Axolotl reads the first two as properties of a message. The canonical rows need no third.
RENAMED = frozenset(("message_field_role", "message_field_content"))
UNNEEDED = frozenset(("ds_type",))


def lost_keys(written: Mapping[str, Any], understood: Mapping[str, Any]) -> Iterator[str]:
    """Each key of an entry that says something, and that the validated config has not got."""
    for kind in ROWS:
        entries, after = written.get(kind), understood.get(kind)
        if not isinstance(entries, list) or not isinstance(after, list):
            continue
        for index, (entry, read) in enumerate(zip(entries, after, strict=False)):
            for key, value in entry.items() if isinstance(entry, Mapping) else ():
                empty = value is None or value is False or value in ("", [], {})
                if not empty and key not in RENAMED | UNNEEDED and read.get(key) is None:
                    yield f"{kind}[{index}].{key}"
