"""The words of PROTOCOL.md, read: what both adapters here share. Standard library alone."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


def question(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of PROTOCOL.md.

    `lineage` is a list of certificates or None, and `audits` a list of certificates with results.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("certificate", "policy", "at"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("model", "lockfile", "nonce", "lineage", "audits"):
        parser.add_argument(f"--{name}")
    asked = parser.parse_args(arguments)
    asked.certificate = Path(asked.certificate).read_bytes()
    if asked.model is not None:
        listing = json.loads(Path(asked.model).read_bytes())
        asked.model = {path: (fact["size"], fact["sha256"]) for path, fact in listing.items()}
    if asked.nonce is not None:
        asked.nonce = bytes.fromhex(asked.nonce)
    if asked.lineage is not None:
        files = sorted(Path(asked.lineage).iterdir(), key=lambda path: int(path.stem))
        asked.lineage = [path.read_bytes() for path in files]
    if asked.audits is not None:
        files = sorted(Path(asked.audits).glob("*.json"), key=lambda path: int(path.stem))
        asked.audits = [
            (path.read_bytes(), path.with_suffix(".results").read_bytes()) for path in files
        ]
    return asked
