"""Check that an adapter fits its base: each of its tensors must have a place there.

Axolotl leaves out, with only a warning, any tensor that has no place, and the model would look
merged. So such tensors are refused before anything runs: other names (of experts that are stored in
another form than they are trained in), other shapes, adapters' embeddings, biases, more or fewer
tokens.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from aicert.errors import EvidenceError, LockError
from aicert.files.tensors import read_tensors
from aicert.formats.safetensors import Tensor

_PREFIX = "base_model.model."
_WEIGHT = ".weight"
_PART = re.compile(r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_magnitude_vector)")
# Numbers of other types are weights only together with their scales. Axolotl handles some of these
# types, and otherwise adds the change to the numbers as stored.
_TYPES = frozenset(("BF16", "F16", "F32", "F64"))
_A, _B = "lora_A.weight", "lora_B.weight"


def tensors_of(files: Iterable[Path]) -> dict[str, Tensor]:
    """Return the tensors of these files, by name. LockError if a name occurs twice."""
    named: dict[str, Tensor] = {}
    for path in files:
        with path.open("rb") as file:
            try:
                _, tensors = read_tensors(file.fileno(), path.stat().st_size)
            except EvidenceError as error:
                raise LockError(f"{path.name}: {error.message}") from None
        for tensor in tensors:
            if tensor.name in named:
                raise LockError(f"two files of a model have a tensor {tensor.name[:80]!a}")
            named[tensor.name] = tensor
    return named


def targets(adapter: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the tensors of `base` that the adapter changes. LockError if it does not fit."""
    whole: set[str] = set()
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in adapter.items():
        inside = name.removeprefix(_PREFIX)
        part = _PART.fullmatch(inside)
        if inside == name or (part is None and inside not in base):
            raise _refusal(name, "has no place in the base")
        if part is None and not inside.endswith(_WEIGHT):
            raise _refusal(name, "is a bias, which Axolotl would leave out")
        if part is not None:
            parts.setdefault(part[1] + _WEIGHT, {})[part[2]] = tensor
            continue
        if tensor.shape != base[inside].shape:
            raise _refusal(name, "does not have the shape of the base's")
        whole.add(inside)
    for target, given in parts.items():
        _check_pair(target, given, base)
    for target in sorted(whole & parts.keys()):
        raise _refusal(target, "is given both whole and as a change")
    if not whole and not parts:
        raise LockError("the adapter has no tensors")
    for target in sorted(whole | parts.keys()):
        if base[target].dtype not in _TYPES:
            why = f"changes numbers of type {base[target].dtype}, as in a quantised base"
            raise _refusal(_PREFIX + target, why, hint="name the base before quantisation")
    return frozenset(whole | parts.keys())


def _check_pair(target: str, given: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    name = f"{_PREFIX}{target}"
    if _A not in given or _B not in given:
        raise _refusal(name, "has no lora_A or no lora_B")
    if target not in base:
        raise _refusal(name, "has no place in the base")
    first, second = given[_A].shape, given[_B].shape
    if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
        raise _refusal(name, "is not a pair of matrices of one rank")
    shape = (second[0], first[1])
    # GPT-2 stores a layer's matrix transposed.
    if base[target].shape not in (shape, shape[::-1]):
        raise _refusal(name, f"changes {shape}, but the base's is {base[target].shape}")


def _refusal(
    name: str, why: str, *, hint: str = "name the base that the adapter was trained on"
) -> LockError:
    return LockError(
        f"the adapter cannot be merged into this base: {name[:120]!a} {why}",
        hint=f"{hint}, then ./doit lock",
    )
