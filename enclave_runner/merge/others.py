"""Compare the files beside the weights of a model that was made from another, with the other's."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from aicert.files.tree import read_file
from aicert.formats import safetensors
from enclave_runner.inputs.references import Reference
from enclave_runner.merge import derivation
from enclave_runner.merge.derivation import DerivedModel

CONFIG = "config.json"
_MAX_CONFIG = 1 << 20


def is_of_weights(path: str) -> bool:
    """Return whether a file of this name holds weights, or the index of several such files."""
    return safetensors.is_named(path.removesuffix(".index.json"))


def beside(model: Reference, shown: Mapping[str, Path]) -> dict[str, Path]:
    """Return the model's files that hold no weights, by their paths in it.

    `shown`: the files that a child sees, place below the inputs → file.
    """
    own = derivation.files_of(model, shown)
    return {path: file for path, file in own.items() if not is_of_weights(path)}


def first_wrong(
    wanted: Mapping[str, Path],
    output: DerivedModel,
    config: Callable[[dict[str, object]], dict[str, object]] | None,
) -> str | None:
    """Say what is wrong with the output's files that hold no weights; None if nothing is.

    They must be those of the base, `wanted`. `config`: returns what the base's config becomes; None
    if it stays as it is.
    """
    rest = {path for path in output.files if not is_of_weights(path)}
    if rest != wanted.keys():
        return f"it has other files than the base: {min(rest ^ wanted.keys())[:120]!a}"
    for path in sorted(rest):
        if path == CONFIG and config is not None:
            given, written = (document(each) for each in (wanted[path], output.folder / path))
            if given is None or written is None:
                return f"{CONFIG} is no config"
            if written != config(given):
                return f"{CONFIG} is not the base's"
        elif read_file(wanted[path]).sha256 != output.files[path].sha256:
            return f"{path[:120]!a} is not the base's"
    return None


def document(path: Path, most: int = _MAX_CONFIG) -> dict[str, object] | None:
    """Return the JSON object in this file; None if it is none, or has more than `most` bytes."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    try:
        value = json.loads(data) if len(data) <= most else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
