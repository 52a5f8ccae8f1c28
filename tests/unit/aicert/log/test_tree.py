"""Tiles give the tree of RFC 6962, compared with two other ways to compute it."""

import hashlib

import pytest

from aicert.audits.merkle import HASH_BYTES, Tree, leaf_hash, root_of
from aicert.log.errors import BrokenLogError
from aicert.log.tiles import Tiles, pack, tile_path, unpack
from aicert.log.tree import TILE_BYTES, Edge, fold, leaves
from aicert.tlog.tree import EMPTY_ROOT, check_consistency
from tests.unit.aicert.log.logs import Bench


def root(entries: list[bytes]) -> bytes:
    tree = Tree()
    for entry in entries:
        tree.add(entry)
    return tree.root()


@pytest.mark.parametrize(
    ("index", "path"),
    [(0, "tile/0/000"), (999, "tile/0/999"), (1234067, "tile/0/x001/x234/067")],
)
def test_places_are_those_of_the_specification(index: int, path: str) -> None:
    assert tile_path(0, index) == path
    assert tile_path(0, index, 7) == f"{path}.p/7"


def test_70000_leaves_have_the_tiles_of_the_specification() -> None:
    edge = Edge()
    one = leaf_hash(b"x")
    full = list(edge.extend(one * 70_000))
    assert [sum(tile.level == level for tile in full) for level in (0, 1)] == [273, 1]
    assert [(tile.level, tile.index, tile.width) for tile in edge.partial()] == [
        (0, 273, 112), (1, 1, 17), (2, 0, 1),
    ]  # fmt: skip
    assert all(len(tile.hashes) == TILE_BYTES for tile in full)
    assert edge.root() == root([b"x"] * 70_000)


def test_the_empty_tree() -> None:
    assert Edge().root() == EMPTY_ROOT
    assert Edge().partial() == []
    assert fold(b"") == b""


def test_roots_and_paths_of_every_size(bench: Bench) -> None:
    sizes = (1, 2, 3, 7, 8, 100, 255, 256, 257, 511, 512, 600)
    roots: dict[int, bytes] = {0: EMPTY_ROOT}
    for size in sizes:
        checkpoint = bench.grow(size - len(bench.entries)).checkpoint
        assert checkpoint.size == size
        assert checkpoint.root == root(bench.entries)
        roots[size] = checkpoint.root
        tiles = Tiles(bench.folder, size)
        for index in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
            path = tiles.inclusion(index)
            assert root_of(bench.entries[index], index, size, path) == checkpoint.root
        for older in (0, *(one for one in sizes if one <= size)):
            path = tiles.consistency(older)
            check_consistency(older, roots[older], size, checkpoint.root, path)
            assert tiles.root(older) == roots[older]


def test_leaves_are_found_where_they_first_lie(bench: Bench) -> None:
    bench.grow(300)
    tiles = Tiles(bench.folder, 300)
    wanted = {leaf_hash(bench.entries[index]): index for index in (0, 255, 299)}
    # Half of one hash and half of the next do not make a leaf.
    between = leaves(bench.entries[:2])[HASH_BYTES // 2 :][:HASH_BYTES]
    assert tiles.indices([*wanted, leaf_hash(b"another"), between]) == wanted
    assert tiles.indices([leaf_hash(bench.entries[0])]) == {leaf_hash(bench.entries[0]): 0}
    assert tiles.indices([]) == {}


def test_paths_across_many_tiles_keep_only_some_in_memory(bench: Bench) -> None:
    bench.grow(256 * 34)
    tiles = Tiles(bench.folder, 256 * 34)
    for index in range(0, 256 * 34, 256):
        tiles.tile(0, index // 256)
    assert tiles.root(256 * 34) == root(bench.entries)


def test_bundles_come_back() -> None:
    entries = [b"", b"a", b"b" * 65535]
    assert unpack(pack(entries), 3) == (entries, len(pack(entries)))


def test_a_tile_that_is_not_there_is_no_subtree(bench: Bench) -> None:
    bench.grow(3)
    with pytest.raises(BrokenLogError, match="missing"):
        Tiles(bench.folder, 3).root(300)
    with pytest.raises(BrokenLogError, match="smaller than the tree needs"):
        Tiles(bench.folder, 3).root(4)


def test_hashes_are_sha256_of_rfc_6962() -> None:
    assert leaves([b"a"]) == hashlib.sha256(b"\0a").digest()
    two = leaves([b"a", b"b"])
    assert fold(two) == hashlib.sha256(b"\1" + two).digest()
