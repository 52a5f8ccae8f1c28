import hashlib
from pathlib import Path

import pytest

from aicert.errors import ToolError
from rules.image.verity import BLOCK, append_tree


def block(text: bytes) -> bytes:
    return text.ljust(BLOCK, b"\0")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_two_blocks_are_hashed_into_one_block_of_hashes(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(block(b"data") + b"more")
    tree = append_tree(path)
    top = block(sha256(block(b"data")) + sha256(block(b"more")))
    assert path.read_bytes() == block(b"data") + block(b"more") + top
    assert (tree.blocks, tree.root.hex) == (2, sha256(top).hex())
    assert (tree.root.hex, tree.blocks) == (sha256(top).hex(), 2)


def test_one_block_has_no_tree(tmp_path: Path) -> None:
    # The kernel counts no level for a single hash (drivers/md/dm-verity-target.c).
    path = tmp_path / "volume"
    path.write_bytes(b"data")
    tree = append_tree(path)
    assert path.read_bytes() == block(b"data")
    assert (tree.blocks, tree.root.hex) == (1, sha256(block(b"data")).hex())


def test_levels_are_written_from_the_top(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    blocks = [block(b"%d" % number) for number in range(129)]
    path.write_bytes(b"".join(blocks))
    tree = append_tree(path)
    hashes = [sha256(item) for item in blocks]
    low = [block(b"".join(hashes[:128])), block(hashes[128])]
    top = block(b"".join(sha256(item) for item in low))
    assert path.read_bytes() == b"".join([*blocks, top, *low])
    assert (tree.blocks, tree.root.hex) == (129, sha256(top).hex())


def test_nothing_is_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.touch()
    with pytest.raises(ToolError, match="empty"):
        append_tree(path)
