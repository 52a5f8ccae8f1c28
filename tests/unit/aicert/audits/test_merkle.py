"""The streaming tree against RFC 6962's recursive definitions."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.audits.merkle import (
    HASH_BYTES,
    Tree,
    leaf_hash,
    level_sizes,
    next_level,
    root_from,
    root_of,
    siblings,
)
from aicert.errors import EvidenceError
from tests.second import tree as second_tree

# The test tree of Certificate Transparency's own implementation (merkletree, "ct"): its leaves, and
# the roots of the trees of the first leaf, the first two, and so on.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
CT_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def leaves(count: int) -> list[bytes]:
    return [b"leaf %d" % index for index in range(count)]


def tree(data: list[bytes], chosen: tuple[int, ...] = ()) -> tuple[bytes, dict[int, list[bytes]]]:
    grown = Tree(chosen)
    for item in data:
        grown.add(item)
    assert grown.count == len(data)
    return grown.root(), grown.paths


@pytest.mark.parametrize("count", CT_ROOTS)
def test_roots_are_those_of_certificate_transparency(count: int) -> None:
    assert tree(CT_LEAVES[:count])[0].hex() == CT_ROOTS[count]


def test_a_tree_without_leaves_is_the_hash_of_nothing() -> None:
    assert tree([])[0] == hashlib.sha256().digest() == second_tree.mth([])


@pytest.mark.parametrize("count", [*range(1, 35), 63, 64, 65, 100])
def test_every_path_is_the_rfcs_and_leads_to_the_root(count: int) -> None:
    data = leaves(count)
    root, paths = tree(data, tuple(range(count)))
    assert root == second_tree.mth(data)
    for index, path in paths.items():
        assert path == second_tree.path(index, data)
        assert root_of(data[index], index, count, path) == root
        assert second_tree.follow(data[index], index, count, path) == root


def test_leaves_and_nodes_are_hashed_apart() -> None:
    root, paths = tree(leaves(2), (0,))
    inner = leaf_hash(leaves(2)[0]) + paths[0][0]
    assert tree([inner])[0] != root


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13])
def test_a_path_of_another_length_leads_nowhere(count: int) -> None:
    data = leaves(count)
    _, paths = tree(data, tuple(range(count)))
    for index, path in paths.items():
        with pytest.raises(EvidenceError, match="longer than the tree"):
            root_of(data[index], index, count, [*path, bytes(32)])
        for short in range(len(path)):
            with pytest.raises(EvidenceError, match="shorter than the tree"):
                root_of(data[index], index, count, path[:short])
    for index in (-1, count):
        with pytest.raises(EvidenceError, match="there is no leaf"):
            root_of(data[0], index, count, paths[0])


@given(st.integers(2, 70).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_a_path_is_good_for_one_place_in_one_tree(shape: tuple[int, int]) -> None:
    count, index = shape
    data = leaves(count)
    root, paths = tree(data, (index,))
    for other in range(count):
        if other != index:
            try:
                assert root_of(data[index], other, count, paths[index]) != root
            except EvidenceError:
                continue
    for first, second in pairwise(range(len(paths[index]))):
        swapped = list(paths[index])
        swapped[first], swapped[second] = swapped[second], swapped[first]
        assert root_of(data[index], index, count, swapped) != root


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 13, 64, 67])
def test_levels_have_the_same_root_and_paths(count: int) -> None:
    root, paths = tree(leaves(count), tuple(range(count)))
    levels = [b"".join(map(leaf_hash, leaves(count)))] if count else []
    while len(levels) < len(level_sizes(count)):
        levels.append(next_level(levels[-1]))
    assert [len(level) // HASH_BYTES for level in levels] == level_sizes(count)
    assert not levels or levels[-1] == root
    for index in range(count):
        path = [
            levels[level][place * HASH_BYTES : (place + 1) * HASH_BYTES]
            for level, place in siblings(index, count)
        ]
        assert path == paths[index]
        assert root_from(leaf_hash(leaves(count)[index]), index, count, path) == root
