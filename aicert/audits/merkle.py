"""The hash tree of RFC 6962, section 2.1, built as leaves arrive: its root and inclusion paths.

Memory grows with the tree's height only. A path is what section 2.1.1 of RFC 6962 defines, lowest
sibling first; `root_of` follows RFC 9162, 2.1.3.2. A root means nothing without the number of
leaves, which fixes the tree's shape. Trees of different kinds are kept apart by what their leaves
begin with (`trees`).
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from aicert.errors import EvidenceError

HASH_BYTES: Final = 32
# The most leaves that a tree may have. A path has at most as many hashes as this number has bits.
MAX_LEAVES: Final = 1 << 48
_LEAF, _NODE = b"\0", b"\1"


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds `data`."""
    return hashlib.sha256(_LEAF + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def level_sizes(count: int) -> list[int]:
    """Return how many nodes each level of a tree has, from its leaves up to its root.

    A node without a sibling is also a node of the next level.
    """
    sizes = [count] if count else []
    while sizes and sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def next_level(nodes: bytes) -> bytes:
    """Return the level above these nodes, whose hashes are joined."""
    pairs, rest = divmod(len(nodes), 2 * HASH_BYTES)
    joined = (
        hashlib.sha256(_NODE + nodes[at : at + 2 * HASH_BYTES]).digest()
        for at in range(0, pairs * 2 * HASH_BYTES, 2 * HASH_BYTES)
    )
    return b"".join(joined) + nodes[len(nodes) - rest :]


def siblings(index: int, count: int) -> list[tuple[int, int]]:
    """Return the nodes on the path of a leaf, lowest first: each its level and its place there."""
    path = []
    for level, size in enumerate(level_sizes(count)):
        place = index ^ 1
        if place < size:
            path.append((level, place))
        index //= 2
    return path


class Tree:
    """A hash tree that takes leaves in order; call `root` after the last one.

    `paths` then has the inclusion paths of the `chosen` leaves, by index.
    """

    def __init__(self, chosen: Iterable[int] = ()) -> None:
        self.count = 0
        self._chosen = sorted(set(chosen))
        self.paths: dict[int, list[bytes]] = {index: [] for index in self._chosen}
        # The roots of complete subtrees, largest first: one for each bit set in `count`.
        self._whole: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Add the next leaf."""
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
        """Return the root and complete `paths`. Call it once, after the last leaf."""
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
        """Extend the paths of chosen leaves in two subtrees that are being joined into one.

        The second begins at leaf `middle` and ends with the last leaf so far.
        """
        chosen = self._chosen
        for place in range(bisect_left(chosen, begin), bisect_right(chosen, self.count)):
            index = chosen[place]
            self.paths[index].append(right if index < middle else left)


def root_of(data: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """Compute the root of the tree of `count` leaves in which `path` proves `data` as leaf `index`.

    EvidenceError if there is no such leaf, or the path does not have that tree's length.
    """
    return root_from(leaf_hash(data), index, count, path)


def root_from(node: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """As `root_of`, from the hash of the leaf."""
    if not 0 <= index < count:
        raise EvidenceError(f"there is no leaf {index} in a tree of {count}")
    place, last = index, count - 1
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
