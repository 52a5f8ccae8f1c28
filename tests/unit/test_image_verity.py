import hashlib
from pathlib import Path

import pytest

from aicert.errors import ToolError
from rules.image_verity import BLOCK, append_tree


def block(text: bytes) -> bytes:
    return text.ljust(BLOCK, b"\0")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_one_block_is_hashed_into_one_block_of_hashes(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(b"data")
    found = append_tree(path)
    top = block(sha256(block(b"data")))
    assert path.read_bytes() == block(b"data") + top
    assert (found.blocks, found.root.hex) == (1, sha256(top).hex())
    assert found.argument == f"{sha256(top).hex()},1"


def test_levels_are_written_from_the_top(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    blocks = [block(b"%d" % number) for number in range(129)]
    path.write_bytes(b"".join(blocks))
    found = append_tree(path)
    hashes = [sha256(item) for item in blocks]
    low = [block(b"".join(hashes[:128])), block(hashes[128])]
    top = block(b"".join(sha256(item) for item in low))
    assert path.read_bytes() == b"".join([*blocks, top, *low])
    assert (found.blocks, found.root.hex) == (129, sha256(top).hex())


def test_nothing_is_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.touch()
    with pytest.raises(ToolError, match="empty"):
        append_tree(path)
