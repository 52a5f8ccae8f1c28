"""Unpack gzip and zstd in bounded memory, and refuse bytes that belong to no row.

Everything that a decompressor would skip silently is refused: bytes after the last member or frame,
comments and extra fields of a gzip header (RFC 1952, 2.3.1), skippable zstd frames (RFC 8878,
3.1.2). Several members or frames make one file, as when files are joined with `cat`.
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from aicert.records.arrow import pyarrow
from aicert.records.errors import RowRefused
from aicert.records.forms import Packing

BLOCK = 1 << 18
# Rows shrink to about a tenth. A file that unpacks to more than ALWAYS_ALLOWED bytes and to more
# than a thousand times its size is taken for a decompression bomb.
MAX_RATIO = 1000
ALWAYS_ALLOWED = 1 << 30
_GZIP = 16 + zlib.MAX_WBITS
# RFC 1952: the flags for text and for a file name, together or alone, and no flag. All others mean
# that the header has further bytes.
_GZIP_FLAGS = {0, 1, 8, 9}
_ZSTD_MAGIC = (0xFD2FB528).to_bytes(4, "little")
_ZSTD_MAX_BLOCK = 1 << 17
# The largest window that decoders accept by default.
_ZSTD_MAX_WINDOW = 1 << 27


def unpacked(file: BinaryIO, packing: Packing) -> Iterator[bytes]:
    """Yield the unpacked content of a file, in blocks.

    RowRefused if the file is incomplete or has bytes besides that content.
    """
    blocks = _gunzip(file) if packing == "gzip" else _unzstd(file)
    size = file.seek(0, 2)
    file.seek(0)
    most = max(ALWAYS_ALLOWED, MAX_RATIO * size)
    total = 0
    for block in blocks:
        total += len(block)
        if total > most:
            raise RowRefused(f"unpacks to more than {MAX_RATIO} times its size")
        yield block


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    data = file.read(BLOCK)
    if not data:
        raise RowRefused("not gzip: the file is empty")
    while data:
        # The header's first four bytes: magic, method, flags.
        data += file.read(4)
        if len(data) < 4 or not data.startswith(b"\x1f\x8b\x08"):
            raise RowRefused("not gzip, or there are bytes after its end")
        if data[3] not in _GZIP_FLAGS:
            raise RowRefused("its gzip header has a comment or other fields")
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            if not data:
                raise RowRefused("its gzip data ends too early")
            try:
                yield member.decompress(data, BLOCK)
            except zlib.error as error:
                raise RowRefused(f"not gzip: {error}") from None
            data = member.unconsumed_tail or (b"" if member.eof else file.read(BLOCK))
        data = member.unused_data or file.read(BLOCK)


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    frames = check_frames(file)
    file.seek(0)
    if not frames:
        raise RowRefused("not zstd: the file is empty")
    arrow = pyarrow(".zst")
    try:
        with arrow.CompressedInputStream(file, "zstd") as stream:
            while block := stream.read(BLOCK):
                yield block
    except (OSError, arrow.ArrowException) as error:
        raise RowRefused(f"not zstd: {error}") from None


def check_frames(file: BinaryIO) -> int:
    """Check all frames of a file (RFC 8878, 3.1.1), and return their number."""
    frames = 0
    while magic := file.read(4):
        if magic != _ZSTD_MAGIC:
            raise RowRefused("not zstd, or there are bytes or skippable frames outside its frames")
        _check_frame(file)
        frames += 1
    return frames


def _check_frame(file: BinaryIO) -> None:
    descriptor = _exactly(file, 1)[0]
    single, checksum = bool(descriptor & 0x20), bool(descriptor & 4)
    if descriptor & 0x08:
        raise RowRefused("its zstd frame has a reserved bit")
    if descriptor & 3:
        raise RowRefused("its zstd frame needs a dictionary")
    window = 0 if single else _exactly(file, 1)[0]
    # The field with the content's size: 0 bytes (1 if single), 2, 4 or 8.
    size_bytes = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    size = int.from_bytes(_exactly(file, size_bytes), "little")
    window_size = size if single else (1 << 10 + (window >> 3)) // 8 * (8 + (window & 7))
    if not single and window_size > _ZSTD_MAX_WINDOW:
        raise RowRefused(f"its zstd window is larger than {_ZSTD_MAX_WINDOW} bytes")
    last = False
    while not last:
        header = int.from_bytes(_exactly(file, 3), "little")
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == 3 or length > _ZSTD_MAX_BLOCK:
            raise RowRefused("not zstd: a block has no valid kind or is too long")
        # A block of kind 1 is one byte, repeated.
        _exactly(file, 1 if kind == 1 else length)
    _exactly(file, 4 if checksum else 0)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise RowRefused("its zstd data ends too early")
    return data
