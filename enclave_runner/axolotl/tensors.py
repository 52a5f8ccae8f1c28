"""Compare the tensors of outputs with those of inputs, to see which weights really changed.

A file with other metadata is a different file with the same weights. So tensors are compared, by
type, shape and bytes: an output's tensor that equals one of any input, under whatever name, is
unchanged. Every input file with a safetensors header is read. A tensor is read whole only if its
first bytes equal those of another. An output that cannot be read is named, and nothing is known
about its tensors. Weights in other formats, and the same numbers in another type, are not compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.files.tensors import read_tensors
from aicert.formats.safetensors import Tensor

# Trained tensors differ in their first values. Only tensors that are equal up to here are compared
# whole.
_FIRST = 1 << 12
_BLOCK = 1 << 20

Sized = tuple[Path, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Counts of the tensors of outputs.

    `unchanged`: equal to a tensor of an input. `changed`: only the name is that of a tensor of an
    input. `new`: neither. `unread`: the outputs that could not be read, each with a reason.
    """

    unchanged: int
    changed: int
    new: int
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """The place of a tensor's bytes: a file, and the offsets where they begin and end."""

    path: Path
    begin: int
    end: int


_Key = tuple[str, tuple[int, ...], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class ByName:
    """The tensors of outputs compared with those of one model, by name.

    `reshaped`: those whose type or shape differs; they are also in `changed`. `lost`: those that
    only the model has. `unread`: as in Counts.
    """

    unchanged: frozenset[str]
    changed: frozenset[str]
    reshaped: frozenset[str]
    new: frozenset[str]
    lost: frozenset[str]
    unread: tuple[str, ...] = ()


def by_name(model: Iterable[Sized], outputs: Iterable[Sized]) -> ByName:
    """Compare each tensor of `outputs` with the one of the same name in `model`.

    The files of `model` must be readable.
    """
    places = {tensor.name: (key, place) for tensor, key, place in _tensors(model, [])}
    same: dict[str, bool] = {}
    reshaped: set[str] = set()
    unread: list[str] = []
    for tensor, key, place in _tensors(outputs, unread):
        before, other = places.get(tensor.name, (None, place))
        if tensor.name in same:
            unread.append(f"{place.path.name}: it has a tensor that another file has as well")
        same[tensor.name] = key == before and _equal(place, other)
        if before is not None and before[:2] != key[:2]:
            reshaped.add(tensor.name)
    return ByName(
        unchanged=frozenset(name for name, is_same in same.items() if is_same),
        changed=frozenset(name for name in places if not same.get(name, True)),
        reshaped=frozenset(reshaped),
        new=frozenset(same.keys() - places.keys()),
        lost=frozenset(places.keys() - same.keys()),
        unread=tuple(unread),
    )


def compare(inputs: Iterable[Sized], outputs: Iterable[Sized]) -> Counts:
    """Count the tensors of `outputs` by how they compare with those of `inputs`.

    Files come with their sizes; input files need not have a safetensors header.
    """
    places: dict[_Key, list[_Place]] = {}
    names: set[str] = set()
    unread: list[str] = []
    # An input without a header holds rows or text, not weights.
    for tensor, key, place in _tensors(inputs, []):
        names.add(tensor.name)
        places.setdefault(key, []).append(place)
    unchanged = changed = new = 0
    for tensor, key, place in _tensors(outputs, unread):
        if any(_equal(place, other) for other in places.get(key, ())):
            unchanged += 1
        elif tensor.name in names:
            changed += 1
        else:
            new += 1
    return Counts(unchanged=unchanged, changed=changed, new=new, unread=tuple(unread))


def _tensors(files: Iterable[Sized], unread: list[str]) -> Iterator[tuple[Tensor, _Key, _Place]]:
    for path, size in files:
        with path.open("rb") as file:
            fd = file.fileno()
            try:
                start, tensors = read_tensors(fd, size)
            except EvidenceError as error:
                unread.append(f"{path.name}: {error.message}")
                continue
            for tensor in tensors:
                begin, end = start + tensor.begin, start + tensor.end
                first = os.pread(fd, min(_FIRST, end - begin), begin)
                yield (
                    tensor,
                    (tensor.dtype, tensor.shape, hashlib.sha256(first).digest()),
                    _Place(path=path, begin=begin, end=end),
                )


def _equal(one: _Place, other: _Place) -> bool:
    """Return whether two tensors of the same type, shape and first bytes have equal bytes."""
    length = one.end - one.begin
    with contextlib.ExitStack() as stack:
        mine = stack.enter_context(one.path.open("rb")).fileno()
        theirs = stack.enter_context(other.path.open("rb")).fileno()
        return all(
            os.pread(mine, min(_BLOCK, length - at), one.begin + at)
            == os.pread(theirs, min(_BLOCK, length - at), other.begin + at)
            for at in range(_FIRST, length, _BLOCK)
        )
