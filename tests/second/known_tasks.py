"""The second verifier's list of the image's tasks, read from docs/spec/known-tasks.md."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from tests.second.limits import SPEC

Record = Mapping[str, Any]
_PAGE = (SPEC / "known-tasks.md").read_text(encoding="utf-8")
KNOWN: Mapping[str, Record] = json.loads(re.findall(r"```json\n(.*?)```", _PAGE, re.DOTALL)[0])
SEED = 1234


def digest(name: str, limit: int | None, seed: int, chat_template: bool) -> str:
    """Return the digest of the task of this name."""
    asked = {
        "chatTemplate": chat_template,
        "definition": KNOWN[name]["definition"],
        "examples": None,
        "limit": limit,
        "rows": KNOWN[name]["digest"],
        "seed": seed,
    }
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def named(task: str) -> str:
    """Return the digest that a policy means, which may name a task of the image."""
    return digest(task, None, SEED, False) if task in KNOWN else task


def is_of_image(records: Record) -> bool:
    """Return whether these are the rows of a task of the image."""
    own = KNOWN.get(records["name"])
    return own is not None and records == {
        "name": records["name"],
        "split": "test",
        "rows": own["rows"],
        "bytes": own["bytes"],
        "digest": own["digest"],
        "unreadBytes": 0,
        "files": [],
    }


def is_possible(document: Record, task: Record, rows: Record) -> bool:
    """Return whether a task of results is none of the image, or has all that its digest says.

    `rows`: those of `data` that it evaluates.
    """
    rest = document.get("limit"), document["seed"], document["chatTemplate"]
    for name, own in KNOWN.items():
        if task["digest"] == digest(name, *rest):
            measures = [[one["name"], one["filter"]] for one in task["metrics"]]
            return bool(
                [rows[key] for key in ("rows", "bytes", "digest")]
                == [own[key] for key in ("rows", "bytes", "digest")]
                and task["kind"] == own["definition"]["output_type"]
                and measures == own["measures"]
                and task["fewShot"] == 0
                and "examples" not in task
            )
    return True
