"""A tree of an audit, kept in a file: proofs from it read no rows.

The file is the holder's own. What is read from it is checked against the root in the results, so a
damaged file ends in a refusal, never in a proof that does not hold. It has a header, for passages
the fingerprints in order (8 bytes each, big-endian), and the levels of the tree from the leaves up,
32 bytes a node. Whoever reads the fingerprints learns what the data holds as far as they tell, so
others may not read the file.
"""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aicert.audits.fingerprints import HASH_BYTES as KEY_BYTES
from aicert.audits.merkle import (
    HASH_BYTES,
    leaf_hash,
    level_sizes,
    next_level,
    root_from,
    siblings,
)
from aicert.errors import LockError, ToolError
from aicert.files.bounded import why

if TYPE_CHECKING:
    from aicert.audits.results import TreeFact

_MAGIC: Final = {False: b"aicert rows tree 1\n", True: b"aicert keys tree 1\n"}
_AT_ONCE: Final = 1 << 15


class KeptTree:
    """A tree in an open file; as a sequence, the fingerprints that its leaves hold."""

    def __init__(self, file: int, path: Path, expected: "TreeFact", *, keyed: bool) -> None:
        self._file, self._path, self._expected = file, path, expected
        self._keys = len(_MAGIC[keyed])
        first = self._keys + (expected.count * KEY_BYTES if keyed else 0)
        self._levels: list[int] = []
        for size in level_sizes(expected.count):
            self._levels.append(first)
            first += size * HASH_BYTES
        self._end = first

    def check(self, magic: bytes) -> None:
        """Refuse a file that cannot be the tree of these results. LockError."""
        size = os.fstat(self._file).st_size
        top = self._read(self._levels[-1], HASH_BYTES) if self._levels else self._expected.root
        if (self._read(0, len(magic)), size, top) != (magic, self._end, self._expected.root):
            raise self.wrong()

    def __len__(self) -> int:
        return self._expected.count

    def __getitem__(self, index: int) -> int:
        return int.from_bytes(self._read(self._keys + index * KEY_BYTES, KEY_BYTES), "big")

    def path_of(self, index: int) -> tuple[bytes, ...]:
        """Return the inclusion path of a leaf. LockError if it does not lead to the root."""
        count = self._expected.count
        path = tuple(self._node(*each) for each in siblings(index, count))
        if root_from(self._node(0, index), index, count, path) != self._expected.root:
            raise self.wrong()
        return path

    def _node(self, level: int, place: int) -> bytes:
        return self._read(self._levels[level] + place * HASH_BYTES, HASH_BYTES)

    def _read(self, at: int, size: int) -> bytes:
        return os.pread(self._file, size, at)

    def wrong(self) -> LockError:
        """Return the refusal of this file."""
        return LockError(
            f"{str(self._path)!a} is not the tree of these results, or damaged",
            hint="name another file: it is made if it is not there",
        )


@contextmanager
def opened(
    path: Path,
    expected: "TreeFact",
    leaves: Iterable[bytes],
    keys: Iterable[int] | None = None,
) -> Iterator[KeptTree]:
    """Open the tree of a file, after making it of `leaves` if it is not there.

    `keys`: for a tree of passages, the fingerprints of its leaves in order. LockError if the file,
    or what it is made of, is not the tree `expected`; ToolError if it cannot be read or written.
    """
    keyed = keys is not None
    try:
        if not path.exists():
            _make(path, expected, leaves, keys)
        with path.open("rb") as file:
            tree = KeptTree(file.fileno(), path, expected, keyed=keyed)
            tree.check(_MAGIC[keyed])
            yield tree
    except OSError as error:
        raise ToolError(f"{str(path)!a}: {why(error)}") from error


def _make(
    path: Path, expected: "TreeFact", leaves: Iterable[bytes], keys: Iterable[int] | None
) -> None:
    """Write the whole file under another name first, so that no half of a tree is left."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(file, "r+b", buffering=1 << 20) as written:
            written.write(_MAGIC[keys is not None])
            written.writelines(key.to_bytes(KEY_BYTES, "big") for key in keys or ())
            begin = written.tell()
            written.writelines(leaf_hash(leaf) for leaf in leaves)
            size = written.tell() - begin
            while size > HASH_BYTES:
                written.flush()
                end = begin + size
                for at in range(begin, end, _AT_ONCE * HASH_BYTES):
                    nodes = os.pread(file, min(_AT_ONCE * HASH_BYTES, end - at), at)
                    written.write(next_level(nodes))
                begin, size = end, written.tell() - end
        with part.open("rb") as done:
            tree = KeptTree(done.fileno(), path, expected, keyed=keys is not None)
            try:
                tree.check(_MAGIC[keys is not None])
            except LockError:
                raise LockError(
                    "the data here, or the key, is not that of the audit results"
                ) from None
        # Unlike a rename, this never replaces a file.
        os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
