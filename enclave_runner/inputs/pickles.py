"""Refuse files that a loader would unpickle, since unpickling runs any code that the file names.

A file is refused for its content (the first bytes of a pickle or a torch archive, under any name)
and for its name (by which loaders choose). The first bytes do not reveal a pickle of protocol 0 or
1, and text of a data set must pass, so such a pickle is refused only by name: its own, or that of a
shard in a weights index. A file that is named safetensors but cannot be read as such is refused for
that reason and not as a pickle, because allowing pickles would not help.
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path, PurePosixPath

from aicert.errors import EvidenceError, LockError
from aicert.files.tensors import read_header
from aicert.formats import lfs, safetensors
from enclave_runner.inputs.model_json import shards

# Endings of files that transformers, peft, torch, datasets and numpy unpickle. Text files of data
# sets have others.
_SUFFIXES = frozenset(
    (".bin", ".ckpt", ".joblib", ".mar", ".npy", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".t7")
)
_PROTOCOLS = frozenset((2, 3, 4, 5))
_ZIP = b"PK\x03\x04"
_TAR_AT, _TAR = 257, b"ustar"
_NUMPY = b"\x93NUMPY"
_INDEX = re.compile(r".*\.index(?:\.[^/]*)?\.json", re.DOTALL)
# An index of 15,000 tensors has 2 MB.
_MAX_INDEX = 1 << 26
# Sizes of a zip's end record, a zip64 locator and a zip64 end record; and the value of a field that
# defers to the zip64 end record.
_END, _LOCATOR, _END64, _NARROW = 22, 20, 56, 0xFFFFFFFF


class PickleRefused(LockError):  # noqa: N818 - says what happened
    """Raised for an input that holds a pickle although its lockfile entry does not allow it."""


class WeightsRefused(LockError):  # noqa: N818 - says what happened
    """Raised for a file that should be weights, or another part of a model, but is not."""


def refuse_lfs_pointer(path: Path, name: str) -> None:
    """Raise WeightsRefused if `path`, the file `name` of an input, is only a Git LFS pointer."""
    with path.open("rb") as file:
        head = file.read(lfs.HEAD)
    if lfs.is_pointer(head):
        raise WeightsRefused(f"{name} is {lfs.REASON}", hint=lfs.HINT)


def weights_header(path: Path, name: str) -> safetensors.Header:
    """Read the header of a safetensors file. Raises WeightsRefused if it cannot be read."""
    refuse_lfs_pointer(path, name)
    try:
        with path.open("rb") as file:
            return read_header(file.fileno(), os.fstat(file.fileno()).st_size)
    except safetensors.BeyondLimits as error:
        # Fetching it again would not help.
        raise WeightsRefused(f"{name}: {error.message}") from None
    except EvidenceError as error:
        raise WeightsRefused(
            f"{name} cannot be read as safetensors: {error.message}",
            hint="fetch it again, it may be incomplete; or save the model again as safetensors",
        ) from None


def refuse_pickle(path: Path, name: str) -> None:
    """Raise PickleRefused if `path`, the file `name` of an input, is or may be a pickle.

    Raises WeightsRefused if it is named safetensors but is not, if it is a truncated archive, or if
    it is only a Git LFS pointer.
    """
    # Pointers come first, because allowing pickles would not help against them.
    refuse_lfs_pointer(path, name)
    try:
        reason = pickle_reason(path, name)
    except zipfile.BadZipFile:
        # It is refused, because a loader may be more forgiving than this reader.
        raise WeightsRefused(
            f"{name} is an archive that cannot be read", hint="fetch it again, it may be incomplete"
        ) from None
    if reason is not None:
        raise PickleRefused(
            f"{name}: {reason}, and loading a pickle runs the code that it names",
            hint="convert the weights to safetensors, or lock the input with allow-pickle",
        )
    if safetensors.is_named(name):
        weights_header(path, name)


def pickle_reason(path: Path, name: str) -> str | None:
    """Say why the file counts as a pickle; None if it does not. BadZipFile if it is truncated."""
    with path.open("rb") as file:
        head = file.read(512)
    suffix = PurePosixPath(name).suffix.lower()
    if len(head) >= 2 and head[0] == 0x80 and head[1] in _PROTOCOLS:
        return f"a pickle (protocol {head[1]})"
    if head.startswith(_ZIP):
        return _archive_reason(path)
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "a tar archive, in which torch once saved pickles"
    if suffix in _SUFFIXES and not (suffix == ".npy" and head.startswith(_NUMPY)):
        return f"the name ends in {suffix}"
    if suffix == ".npy" and b"O" in head[10:128]:
        return "a numpy array of objects"
    for shard in _shards(path, name):
        # Loaders choose by exactly this test: any other shard goes to torch.load.
        if not shard.endswith(safetensors.SUFFIX):
            return f"an index of weights with the shard {shard[:80]!a}"
    return None


def _shards(path: Path, name: str) -> list[str]:
    """Return the files that a weights index names; none if `path`, named `name`, is no index."""
    if not _INDEX.fullmatch(PurePosixPath(name).name):
        return []
    with path.open("rb") as file:
        data = file.read(_MAX_INDEX + 1)
    if len(data) > _MAX_INDEX:
        raise LockError(f"{name} is larger than {_MAX_INDEX} bytes, and loaders take names from it")
    return shards(data)


def _archive_reason(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            start = archive.start_dir
        if not _has_one_reading(path, start):
            return "an archive that other readers may read differently"
    except (OSError, NotImplementedError, ValueError) as error:
        raise zipfile.BadZipFile(str(error)) from None
    for name in names:
        if PurePosixPath(name).suffix.lower() in (".pkl", ".pickle", ".npy", ".pt", ".bin"):
            return f"an archive that holds {name[:80]!r}"
    return None


def _has_one_reading(path: Path, start: int) -> bool:
    """Return whether the directory that `zipfile` read, at `start`, is where the end record says.

    `zipfile` reads the directory just before the end record; torch's reader reads the one that the
    record points to. Both must be the same: no comment, one end record (or one of zip64, with its
    locator), and nothing in between.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail_at = max(0, size - _END - _LOCATOR - _END64)
        file.seek(tail_at)
        tail = file.read()
    end = tail[-_END:]
    locator, end64 = tail[-_END - _LOCATOR : -_END], tail[: -_END - _LOCATOR][-_END64:]
    if end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0":
        return False
    length, offset = int.from_bytes(end[12:16], "little"), int.from_bytes(end[16:20], "little")
    stop = size - _END
    if locator[:4] == b"PK\x06\x07":
        stop -= _LOCATOR + _END64
        if end64[:4] != b"PK\x06\x06" or int.from_bytes(locator[8:16], "little") != stop:
            return False
        wide = int.from_bytes(end64[40:48], "little"), int.from_bytes(end64[48:56], "little")
        if length not in (wide[0], _NARROW) or offset not in (wide[1], _NARROW):
            return False
        length, offset = wide
    return offset == start and offset + length == stop
