"""The hash tree of RFC 6962, section 2.1, built as leaves arrive: root and inclusion paths.

Memory is the tree's height. A path is what section 2.1.1 of RFC 6962 defines, lowest sibling first;
`root_of` follows RFC 9162, 2.1.3.2. A root says nothing without the number of leaves, which fixes
the tree's shape. The leaves themselves keep trees of different kinds apart (`trees`).
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from aicert.errors import EvidenceError

HASH_BYTES: Final = 32
# The most leaves of a tree. A path is no longer than that number has bits.
MAX_LEAVES: Final = 1 << 48
_LEAF, _NODE = b"\0", b"\1"


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf that holds `data`."""
    return hashlib.sha256(_LEAF + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


class Tree:
    """Takes leaves in order; call `root` when all are in. `paths` are those of the `chosen`
    leaves.
    """

    def __init__(self, chosen: Iterable[int] = ()) -> None:
        self.count = 0
        self._chosen = sorted(set(chosen))
        self.paths: dict[int, list[bytes]] = {index: [] for index in self._chosen}
        # Whole subtrees, largest first: one for each bit of `count`.
        self._whole: list[bytes] = []

    def add(self, data: bytes) -> None:
        """The next leaf."""
        node, index = leaf_hash(data), self.count
        size = 1
        while index & size:
            left = self._whole.pop()
            if self._chosen:
                self._step(index + 1 - 2 * size, index + 1 - size, left, node)
            node = _node(left, node)
            size *= 2
        self._whole.append(node)
        self.count += 1

    def root(self) -> bytes:
        """The root. Call it once, at the end; it completes `paths`."""
        if not self._whole:
            return hashlib.sha256().digest()
        node = self._whole.pop()
        size = self.count & -self.count
        begin = self.count - size
        while self._whole:
            left = self._whole.pop()
            middle = begin
            begin -= begin & -begin
            self._step(begin, middle, left, node)
            node = _node(left, node)
        return node

    def _step(self, begin: int, middle: int, left: bytes, right: bytes) -> None:
        """Two subtrees become one; the second begins at leaf `middle` and ends with the last."""
        chosen = self._chosen
        for place in range(bisect_left(chosen, begin), bisect_right(chosen, self.count)):
            index = chosen[place]
            self.paths[index].append(right if index < middle else left)


def root_of(data: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root of the tree of `count` leaves in which `path` leads to `data` as leaf `index`.

    EvidenceError if there is no such leaf, or the path does not have that tree's length.
    """
    if not 0 <= index < count:
        raise EvidenceError(f"there is no leaf {index} in a tree of {count}")
    node, place, last = leaf_hash(data), index, count - 1
    for sibling in path:
        if not last:
            raise EvidenceError("the path is longer than the tree is high")
        if place & 1 or place == last:
            node = _node(sibling, node)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            node = _node(node, sibling)
        place >>= 1
        last >>= 1
    if last:
        raise EvidenceError("the path is shorter than the tree is high")
    return node
