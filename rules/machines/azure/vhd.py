"""A raw disk as a fixed VHD without copying it: the same bytes, rounded up, plus a footer.

Microsoft, Virtual Hard Disk Image Format Specification 1.0, "Hard Disk Footer Format" and "CHS
Calculation". Azure requires fixed disks whose size without the footer is whole MiB. Dynamic and
differencing disks are not supported.
"""

import hashlib
import os
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MIB = 1 << 20
GIB = 1 << 30
FOOTER = 512
# The most that one request may write to a page blob.
CHUNK = 4 * MIB
_SECTOR = 512
_FEATURES = 0x00000002  # the bit that is always set
_VERSION = 0x00010000
_NO_NEXT = 0xFFFFFFFFFFFFFFFF
_FIXED = 2
_MOST_SECTORS = 65535 * 16 * 255
_FORM = ">8sIIQI4sI4sQQHBBII16sB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vhd:
    """A raw disk in a file, as a fixed VHD of `disk` bytes and a footer."""

    path: Path
    disk: int
    footer: bytes
    digest: str

    @property
    def size(self) -> int:
        """The size of the VHD, including the footer."""
        return self.disk + FOOTER

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yield (offset, size) of each piece that is not a hole in the file; the footer is the
        last.
        """
        with self.path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            at = 0
            while at < end:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA) // CHUNK * CHUNK
                except OSError:
                    break  # ENXIO: only a hole follows
                hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
                while at < max(hole, at + 1):
                    yield at, min(CHUNK, self.disk - at)
                    at += CHUNK
                    if at >= hole:
                        break
        yield self.disk, FOOTER

    def read(self, file: BinaryIO, offset: int, size: int) -> bytes:
        """Read bytes of the VHD: from the open file, its padding, or the footer."""
        if offset == self.disk:
            return self.footer
        data = os.pread(file.fileno(), size, offset)
        return data + bytes(size - len(data))


def of_file(path: Path) -> Vhd:
    """Return the VHD of a raw disk; equal disks give equal VHDs."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        size = os.fstat(file.fileno()).st_size
    disk = -(-size // MIB) * MIB
    identity = uuid.UUID(bytes=digest.digest()[:16])
    return Vhd(path=path, disk=disk, footer=footer(disk, identity), digest=digest.hexdigest())


def footer(size: int, identity: uuid.UUID) -> bytes:
    """Return the last 512 bytes of a fixed VHD of `size` bytes."""

    def pack(checksum: int) -> bytes:
        return struct.pack(
            _FORM,
            b"conectix", _FEATURES, _VERSION, _NO_NEXT,
            0,  # seconds since 2000: the disk's content carries its own times
            b"aice", _VERSION, b"Wi2k", size, size, *geometry(size), _FIXED, checksum,
            identity.bytes, 0,
        ).ljust(FOOTER, b"\0")  # fmt: skip

    return pack(~sum(pack(0)) & 0xFFFFFFFF)


def geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track, as the specification's appendix computes them."""
    total = min(size // _SECTOR, _MOST_SECTORS)
    if total >= 65535 * 16 * 63:
        sectors, heads = 255, 16
        tracks = total // sectors
    else:
        sectors = 17
        tracks = total // sectors
        heads = max((tracks + 1023) // 1024, 4)
        if tracks >= heads * 1024 or heads > 16:
            sectors, heads = 31, 16
            tracks = total // sectors
        if tracks >= heads * 1024:
            sectors, heads = 63, 16
            tracks = total // sectors
    return tracks // heads, heads, sectors


def widen(volume: Path, block: int) -> None:
    """Round an input volume up to whole GiB, keeping its last block last.

    A managed disk has whole GiB, and the machine looks for the volume's root hash in the last
    block.
    """
    with volume.open("r+b") as file:
        end = file.seek(-block, os.SEEK_END)
        trailer = file.read(block)
        wide = -(-(end + block) // GIB) * GIB
        if wide != end + block:
            # Punch a hole where the block was: nothing reads between the tree and the end.
            file.truncate(end)
            file.truncate(wide)
            file.seek(wide - block)
            file.write(trailer)
