"""`aicert verify-proof` written a second time, from docs/spec/audit.md and without code of
`aicert`.

It handles ASCII texts only; case folding is compared elsewhere, with tables of its own.
"""

import base64
import json
import re
from typing import Any

from tests.second.tree import fingerprints, follow


def words(text: str) -> list[str]:
    """Return the case-folded words of an ASCII text."""
    assert text.isascii()
    listed = re.findall("[a-z0-9]+", text.lower())
    return [word.replace("0", "o").replace("1", "l").replace("rn", "m") for word in listed]


def siblings(text: str) -> list[bytes]:
    data = base64.b64decode(text)
    return [data[i : i + 32] for i in range(0, len(data), 32)]


def leads(leaf: bytes, index: int, tree: dict[str, Any], path: str) -> bool:
    """Whether a path leads from a leaf to the tree's root."""
    root = follow(leaf, index, tree["count"], siblings(path))
    return root is not None and root.hex() == tree["root"]


def holds(results: str, proof: str, subject: str) -> bool:
    """Whether a proof about a row or a text is valid for these results."""
    claim = json.loads(proof)
    for entry in json.loads(results)["data"]:
        if (entry["name"], entry["split"]) == (claim["name"], claim["split"]):
            if claim["kind"] == "record/v1":
                leaf = b"aicert record v1\0" + base64.b64decode(claim["salt"]) + subject.encode()
                return leads(leaf, claim["row"] - 1, entry["rows"], claim["path"])
            return "passages" in entry and absent(claim["gaps"], subject, entry["passages"])
    return False


def absent(gaps: list[dict[str, Any]], text: str, tree: dict[str, Any]) -> bool:
    """Whether there is, in order, one gap for each fingerprint of a text, and the fingerprint lies
    in it.
    """
    listed = words(text)
    if len(listed) < 50:
        return False
    wanted = sorted(fingerprints(listed))
    return len(wanted) == len(gaps) and all(
        lies_in(gap, fingerprint, tree) for gap, fingerprint in zip(gaps, wanted, strict=True)
    )


def lies_in(gap: dict[str, Any], fingerprint: int, tree: dict[str, Any]) -> bool:
    sides = {"left": gap["index"] - 1, "right": gap["index"]}
    expected = {side for side, place in sides.items() if 0 <= place < tree["count"]}
    if gap["index"] > tree["count"] or expected != gap.keys() - {"index"}:
        return False
    for side in expected:
        leaf = bytes.fromhex(gap[side]["fingerprint"])
        own = fingerprint.to_bytes(8, "big")
        if not (leaf < own if side == "left" else leaf > own):
            return False
        if not leads(b"aicert passage v1\0" + leaf, sides[side], tree, gap[side]["path"]):
            return False
    return True
