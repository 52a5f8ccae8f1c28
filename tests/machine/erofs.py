"""An erofs from a hostile host that does not use mkfs.erofs: a folder that hides its last file.

Structures are those of the kernel's fs/erofs/erofs_fs.h, as `rules.machines.volumes` makes them:
blocks of 4096 bytes, small folders behind their inodes, no extended attributes.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from rules.image.verity import BLOCK

_SUPER = 1024
# Offsets in the superblock: compatible features (the first is its checksum), root, blocks, inodes'
# block.
_COMPATIBLE, _ROOT, _BLOCKS, _INODES = 8, 14, 36, 40
# Offsets in an inode: its size, and the block where its content begins.
_SIZE, _CONTENT = 8, 16
_SLOT = 32
_ENTRY = struct.Struct("<QHBx")


def hide_last(path: Path, folder: str, letters: int) -> None:
    """List the last file of `folder` by its first `letters`, but let its whole name open it.

    The kernel lists names up to a folder's size, and looks them up in the whole block.
    """
    data = bytearray(path.read_bytes())
    at = _inode(data, folder)
    content = _content(data, at)
    name, start, _ = list(_entries(content))[-1]
    data += bytes(-len(data) % BLOCK)
    block = len(data) // BLOCK
    data += content.ljust(BLOCK, b"\0")
    kind, _, _ = struct.unpack_from("<HHH", data, at)
    # Use whole blocks elsewhere in place of bytes behind the inode, after which the kernel sees
    # zeros.
    struct.pack_into("<H", data, at, kind & 1)
    struct.pack_into("<I", data, at + _CONTENT, block)
    struct.pack_into("<I", data, at + _SIZE, start + min(letters, len(name)))
    struct.pack_into("<I", data, _SUPER + _BLOCKS, block + 1)
    (features,) = struct.unpack_from("<I", data, _SUPER + _COMPATIBLE)
    struct.pack_into("<I", data, _SUPER + _COMPATIBLE, features & ~1)
    path.write_bytes(data)


def _inode(data: bytearray, folder: str) -> int:
    """Return the offset of a folder's inode."""
    (inodes,) = struct.unpack_from("<I", data, _SUPER + _INODES)
    (number,) = struct.unpack_from("<H", data, _SUPER + _ROOT)
    for part in folder.split("/"):
        entries = _entries(_content(data, inodes * BLOCK + number * _SLOT))
        number = next(inode for name, _, inode in entries if name == part.encode())
    return int(inodes * BLOCK + number * _SLOT)


def _content(data: bytearray, at: int) -> bytes:
    """Return the content of a small folder, which is behind its inode of 32 or 64 bytes."""
    (kind,) = struct.unpack_from("<H", data, at)
    (size,) = struct.unpack_from("<I", data, at + _SIZE)
    start = at + _SLOT * (2 if kind & 1 else 1)
    return bytes(data[start : start + size])


def _entries(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset of the name and inode of each entry of a folder of one block."""
    count = _ENTRY.unpack_from(content)[1] // _ENTRY.size
    entries = [_ENTRY.unpack_from(content, _ENTRY.size * index) for index in range(count)]
    ends = [start for _, start, _ in entries[1:]] + [len(content)]
    for (inode, start, _), end in zip(entries, ends, strict=True):
        yield content[start:end], start, inode
