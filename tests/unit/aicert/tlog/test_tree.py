"""Consistency of trees, against RFC 6962's own recursive definition."""

import hashlib
from itertools import pairwise

import pytest

from aicert.audits.merkle import leaf_hash
from aicert.errors import EvidenceError
from aicert.tlog.tree import EMPTY_ROOT, check_consistency, node

LEAVES = [b"leaf %d" % number for number in range(40)]


def root(leaves: list[bytes]) -> bytes:
    """Return the root hash of the tree (RFC 6962, 2.1)."""
    if len(leaves) < 2:
        return leaf_hash(leaves[0]) if leaves else hashlib.sha256().digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return node(root(leaves[:k]), root(leaves[k:]))


def path(old: int, leaves: list[bytes], *, known: bool = True) -> list[bytes]:
    """Return the consistency path (RFC 6962, 2.1.2: SUBPROOF)."""
    if old == len(leaves):
        return [] if known else [root(leaves)]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= k:
        return [*path(old, leaves[:k], known=known), root(leaves[k:])]
    return [*path(old - k, leaves[k:], known=False), root(leaves[:k])]


SIZES = [(old, size) for size in range(1, len(LEAVES) + 1) for old in range(1, size + 1)]


def test_each_tree_begins_with_each_smaller_one() -> None:
    roots = [root(LEAVES[:size]) for size in range(len(LEAVES) + 1)]
    assert roots[0] == EMPTY_ROOT
    for old, size in SIZES:
        check_consistency(old, roots[old], size, roots[size], path(old, LEAVES[:size]))


def test_no_path_leads_from_another_tree_and_none_is_longer_or_shorter() -> None:
    roots = [root(LEAVES[:size]) for size in range(len(LEAVES) + 1)]
    for old, size in SIZES:
        given = path(old, LEAVES[:size])
        wrong = [[*given, bytes(32)]]
        if given:
            wrong += [given[:-1], given[1:], [bytes(32), *given[1:]], [*given[:-1], bytes(32)]]
        for one in wrong:
            with pytest.raises(EvidenceError, match=r"path|fork|differ"):
                check_consistency(old, roots[old], size, roots[size], one)
        for before, after in ((bytes(32), roots[size]), (roots[old], bytes(32))):
            with pytest.raises(EvidenceError, match=r"forked|differ"):
                check_consistency(old, before, size, after, given)


def test_nothing_begins_every_tree_and_no_tree_a_smaller_one() -> None:
    check_consistency(0, EMPTY_ROOT, 7, root(LEAVES[:7]), [])
    check_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    for old, old_root, size, given in (
        (0, root(LEAVES[:1]), 7, []),
        (0, EMPTY_ROOT, 7, [bytes(32)]),
        (7, root(LEAVES[:6]), 7, []),
        (7, root(LEAVES[:7]), 7, [bytes(32)]),
        (8, root(LEAVES[:8]), 7, []),
        (-1, EMPTY_ROOT, 7, []),
        (3, root(LEAVES[:3]), 7, []),
    ):
        with pytest.raises(EvidenceError, match=r"differ|cannot be the beginning|is empty"):
            check_consistency(old, old_root, size, root(LEAVES[:7]), given)


def test_a_tree_with_one_leaf_changed_is_a_fork() -> None:
    forked = [*LEAVES[:4], b"another", *LEAVES[5:]]
    for old, size in pairwise((5, 6, 8, 9, 16, 33)):
        given = path(old, forked[:size])
        with pytest.raises(EvidenceError, match="the log has forked"):
            check_consistency(old, root(LEAVES[:old]), size, root(forked[:size]), given)
