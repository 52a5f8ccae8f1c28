"""The right edge of a log's tree: add leaves, and get the root and the tiles that they fill.

The tree is that of RFC 6962. A tile (C2SP tlog-tiles) holds 256 hashes that lie side by side at a
height that is a multiple of 8. The root of a full tile is one hash in a tile 8 levels higher. So a
tree of any size has one partial tile per level. These tiles are the edge, and the root is computed
from them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from aicert.audits.merkle import HASH_BYTES, leaf_hash
from aicert.frozen import dataclass
from aicert.tlog.tree import EMPTY_ROOT

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
TILE_BYTES: Final = WIDTH * HASH_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A tile: the hashes at a level, of which the first has the number `256 * index`."""

    level: int
    index: int
    hashes: bytes

    @property
    def width(self) -> int:
        """The number of hashes."""
        return len(self.hashes) // HASH_BYTES


def fold(hashes: bytes) -> bytes:
    """Return the root over adjacent hashes; the last may be the root of a smaller subtree."""
    pair, sha256 = 2 * HASH_BYTES, hashlib.sha256
    while len(hashes) > HASH_BYTES:
        whole = len(hashes) - len(hashes) % pair
        nodes = [sha256(b"\1" + hashes[at : at + pair]).digest() for at in range(0, whole, pair)]
        # A hash without a sibling moves up a level unchanged (RFC 6962, 2.1).
        hashes = b"".join(nodes) + hashes[whole:]
    return hashes


def leaves(entries: Sequence[bytes]) -> bytes:
    """Return the leaf hashes of entries, concatenated."""
    return b"".join(map(leaf_hash, entries))


class Edge:
    """A growing tree; `levels` has the hashes of the last tile at each level."""

    def __init__(self, size: int = 0, levels: Sequence[bytes] = ()) -> None:
        self.size = size
        self.levels = [bytearray(level) for level in levels]

    def extend(self, hashes: bytes) -> Iterator[Tile]:
        """Add leaves by their hashes, and yield each tile that they fill. The caller must exhaust
        it.
        """
        at = 0
        while at < len(hashes):
            if not self.levels:
                self.levels.append(bytearray())
            lowest = self.levels[0]
            part = hashes[at : at + TILE_BYTES - len(lowest)]
            lowest += part
            at += len(part)
            self.size += len(part) // HASH_BYTES
            if len(lowest) == TILE_BYTES:
                yield from self._full()

    def _full(self) -> Iterator[Tile]:
        level = 0
        while len(self.levels[level]) == TILE_BYTES:
            hashes = bytes(self.levels[level])
            index = (self.size >> HEIGHT * (level + 1)) - 1
            yield Tile(level=level, index=index, hashes=hashes)
            self.levels[level].clear()
            level += 1
            if level == len(self.levels):
                self.levels.append(bytearray())
            self.levels[level] += fold(hashes)

    def partial(self) -> list[Tile]:
        """Return the partial tiles that are not empty."""
        return [
            Tile(level=level, index=self.size >> HEIGHT * (level + 1), hashes=bytes(hashes))
            for level, hashes in enumerate(self.levels)
            if hashes
        ]

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        root = b""
        for hashes in self.levels:
            root = fold(bytes(hashes) + root)
        return root or EMPTY_ROOT
