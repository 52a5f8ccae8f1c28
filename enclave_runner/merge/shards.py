"""Check that loaders find the weights of a derived model: in one file, or in those of an index."""

import json
from pathlib import Path

from aicert.errors import LockError
from aicert.formats import safetensors
from enclave_runner.merge import fitting
from enclave_runner.merge.derivation import DerivedModel

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_INDEX_ENDS = ".index.json"
# The index of 90,000 tensors has 9 MB.
_MAX_INDEX = 1 << 25


def check(output: DerivedModel, what: str = "merge") -> None:
    """Refuse weights that loaders would not read, all of them and no others. Raises LockError.

    The files must be readable as safetensors. `what`: what was done, for messages.
    """
    wrong = _wrong(output)
    if wrong is not None:
        raise LockError(f"the {what} went wrong: {wrong}")


def _wrong(output: DerivedModel) -> str | None:
    shards = {path for path in output.files if safetensors.is_named(path)}
    indices = {path for path in output.files if path.lower().endswith(_INDEX_ENDS)}
    if len(shards) == 1:
        others = (shards | indices) - {WHOLE}
        if others:
            return f"its weights are not in {WHOLE} alone: it has {min(others)[:120]!a}"
        return None
    if indices != {INDEX}:
        return f"the weights in {len(shards)} files have no index, or several"
    stored = {name: path for path in shards for name in fitting.tensors_of([output.folder / path])}
    if _weight_map(output.folder / INDEX) != stored:
        return f"{INDEX} does not name each tensor with its file"
    return None


def _weight_map(path: Path) -> object:
    with path.open("rb") as file:
        data = file.read(_MAX_INDEX + 1)
    try:
        document = json.loads(data) if len(data) <= _MAX_INDEX else None
    except (ValueError, RecursionError):
        document = None
    return document.get("weight_map") if isinstance(document, dict) else None
