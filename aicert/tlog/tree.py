"""Check that one tree of a log is the beginning of another (RFC 9162, 2.1.4).

Leaves and inclusion paths are in `aicert.audits.merkle`: it is the same kind of tree.
"""

import hashlib
from collections.abc import Sequence

from aicert.errors import EvidenceError

EMPTY_ROOT = hashlib.sha256().digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two others (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def check_consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]
) -> None:
    """Raise EvidenceError unless the tree of `size` leaves begins with that of `old_size`.

    Follows RFC 9162, 2.1.4.2.
    """
    if not 0 <= old_size <= size:
        raise EvidenceError(f"a tree of {old_size} leaves cannot be the beginning of one of {size}")
    if old_size in (0, size):
        # No path is needed: the trees are the same, or the older one is empty.
        if path or old_root != (root if old_size == size else EMPTY_ROOT):
            raise EvidenceError(
                "two trees of one size differ, or the path from an empty one is not empty"
            )
        return
    # If the old tree is a whole subtree, the path leaves out its first hash, the old root itself.
    whole = old_size & (old_size - 1) == 0
    hashes = [old_root, *path] if whole else list(path)
    if not hashes:
        raise EvidenceError("the path between two trees is empty")
    place, last = old_size - 1, size - 1
    while place & 1:
        place >>= 1
        last >>= 1
    before = after = hashes[0]
    for sibling in hashes[1:]:
        if not last:
            raise EvidenceError("the path between two trees is longer than the larger is high")
        if place & 1 or place == last:
            before, after = node(sibling, before), node(sibling, after)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            after = node(after, sibling)
        place >>= 1
        last >>= 1
    if last:
        raise EvidenceError("the path between two trees is shorter than the larger is high")
    if (before, after) != (old_root, root):
        raise EvidenceError("one tree is not the beginning of the other: the log has forked")
