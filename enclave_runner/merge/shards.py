"""Check that loaders find the weights of a derived model: in one file, or in those of an index."""

from aicert.errors import LockError
from aicert.formats import safetensors
from enclave_runner.merge import fitting, others
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
        more = (shards | indices) - {WHOLE}
        if more:
            return f"its weights are not in {WHOLE} alone: it has {min(more)[:120]!a}"
        return None
    if indices != {INDEX}:
        return f"the weights in {len(shards)} files have no index, or several"
    stored = {name: path for path in shards for name in fitting.tensors_of([output.folder / path])}
    index = others.document(output.folder / INDEX, _MAX_INDEX)
    if index is None or index.get("weight_map") != stored:
        return f"{INDEX} does not name each tensor with its file"
    return None
