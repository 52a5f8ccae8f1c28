"""Make the hash tree of dm-verity (kernel: admin-guide/device-mapper/verity.rst).

Hash type 1, SHA-256, blocks of 4096 bytes, no salt and no superblock: the tree directly follows the
data, topmost level first, and a command line has everything needed to open it. Without a salt,
equal data have equal roots everywhere. A reproducible image needs that, and a salt would add no
safety, because the root pins every byte. There is no error correction.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from aicert.formats import machine_io
from aicert.formats.digest import Digest

BLOCK = machine_io.BLOCK
_READ = 256 * BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Verity:
    """The facts that open a volume: the root hash, and the number of data blocks before the tree.

    `blocks` counts blocks of `BLOCK` bytes.
    """

    root: Digest
    blocks: int


def append_tree(path: Path) -> Verity:
    """Pad the file to whole blocks and append its hash tree; return the facts that open it."""
    with path.open("r+b") as file:
        levels, blocks = _levels(path)
        file.truncate(blocks * BLOCK)
        file.seek(blocks * BLOCK)
        for level in reversed(levels[:-1]):
            file.write(level)
    return Verity(root=Digest("sha256", levels[-1].hex()), blocks=blocks)


def _levels(path: Path) -> tuple[list[bytes], int]:
    """Compute the levels of the tree from the lowest up, and count the data blocks.

    Each level is padded to whole blocks, except the last, which is the bare root hash.
    """
    hashes = b"".join(hashlib.sha256(block).digest() for block in _blocks(path))
    blocks = len(hashes) // 32
    if not blocks:
        raise ToolError(f"an empty file cannot be a verity volume: {path.name}")
    levels: list[bytes] = []
    if blocks == 1:
        # There is no tree: the root is the hash of the only block.
        return [hashes], blocks
    while True:
        level = hashes + bytes(-len(hashes) % BLOCK)
        levels.append(level)
        if len(level) == BLOCK:
            break
        hashes = b"".join(
            hashlib.sha256(level[at : at + BLOCK]).digest() for at in range(0, len(level), BLOCK)
        )
    return [*levels, hashlib.sha256(levels[-1]).digest()], blocks


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_READ):
            data += bytes(-len(data) % BLOCK)
            for at in range(0, len(data), BLOCK):
                yield data[at : at + BLOCK]
