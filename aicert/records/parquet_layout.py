"""Check the layout of a Parquet file, so that no bytes hide in it.

pyarrow follows offsets and ignores everything between them. This module walks the whole file: magic
bytes, each column chunk page by page, page indexes and bloom filters, footer. They have to follow
one another without a gap or an overlap (Parquet format 2.11, `parquet.thrift`). It does not look
inside headers, statistics, indexes and metadata, nor at bytes in a page after its last value.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from aicert.frozen import dataclass
from aicert.records.errors import RowRefused
from aicert.records.thrift import Struct, ThriftReader, integer, struct, structs

MAGIC = b"PAR1"
ENCRYPTED = b"PARE"
MAX_FOOTER = 64 << 20
# Writers make pages of about a megabyte, or larger for one large value.
MAX_PAGE = 256 << 20
# A header's statistics hold two values.
_MAX_PAGE_HEADER = 1 << 20
_FIRST_READ = 1 << 10
# parquet.thrift: CompressionCodec, by pyarrow's names. Few readers support LZO and the old LZ4.
CODECS = {0: None, 1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryPage:
    """The place of a chunk's dictionary, which has the values that pages refer to by number.

    `start` and `packed`: the offset and size of its bytes; they unpack, by `codec`, to `unpacked`
    bytes, which hold `values` values in PLAIN encoding.
    """

    start: int
    packed: int
    unpacked: int
    values: int
    codec: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One leaf column of one row group."""

    dictionary: DictionaryPage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """A row group, with its chunks in the order of the leaf columns."""

    rows: int
    unpacked: int
    chunks: tuple[Chunk, ...]


def layout(file: BinaryIO) -> tuple[RowGroup, ...]:
    """Walk the file, and return its row groups; RowRefused if any bytes belong to no part of it."""
    size = file.seek(0, 2)
    footer_start, footer = _footer(file, size)
    walk = _Walk(file, footer_start)
    groups = tuple(walk.row_group(group) for group in structs(footer, 4))
    if sum(group.rows for group in groups) != integer(footer, 3):
        raise RowRefused("its row groups do not have as many rows as its footer says")
    walk.check_ranges()
    return groups


def _footer(file: BinaryIO, size: int) -> tuple[int, Struct]:
    file.seek(0)
    head = file.read(4)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    if ENCRYPTED in (head, tail[4:]):
        raise RowRefused("it is encrypted")
    if size < 12 or head != MAGIC or tail[4:] != MAGIC:
        raise RowRefused("not Parquet, or there are bytes before or after it")
    length = int.from_bytes(tail[:4], "little")
    start = size - 8 - length
    if length > MAX_FOOTER or start < 4:
        raise RowRefused("its footer is longer than the file, or too long")
    file.seek(start)
    reader = ThriftReader(file.read(length))
    footer = reader.struct()
    if reader.at != length:
        raise RowRefused("there are bytes after its footer's end")
    if 8 in footer:
        raise RowRefused("it is encrypted")
    return start, footer


class _Walk:
    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file = file
        self._end = end
        self._ranges = [(0, len(MAGIC)), (end, end)]

    def row_group(self, group: Struct) -> RowGroup:
        chunks = tuple(self._chunk(chunk) for chunk in structs(group, 1))
        return RowGroup(rows=integer(group, 3), unpacked=integer(group, 2), chunks=chunks)

    def check_ranges(self) -> None:
        """Check that the parts leave no gap and do not overlap."""
        for (_, end), (start, _) in pairwise(sorted(self._ranges)):
            if end < start:
                raise RowRefused(f"{start - end} bytes from byte {end} on belong to no column")
            if end > start:
                raise RowRefused(f"two parts of it overlap at byte {start}")

    def _chunk(self, chunk: Struct) -> Chunk:
        if 1 in chunk:
            raise RowRefused("a column is in another file")
        if 8 in chunk or 9 in chunk:
            raise RowRefused("a column is encrypted")
        meta = struct(chunk, 3)
        first = start = integer(meta, 9)
        # A column without values may have no data page; the offset of that is then 0.
        if 11 in meta and (0 < integer(meta, 11) < first or first == 0):
            start = integer(meta, 11)
        codec = integer(meta, 4)
        if codec not in CODECS:
            raise RowRefused("a column uses a compression that few readers support")
        end = start + integer(meta, 7)
        self._add(start, end)
        for offset, length in ((4, 5), (6, 7)):
            if offset in chunk:
                at = integer(chunk, offset)
                self._add(at, at + integer(chunk, length))
        if 14 in meta:
            self._add_bloom_filter(meta)
        values = 0
        dictionary = None
        for number, (at, page) in enumerate(self._pages(start, end)):
            if integer(page, 1) == _DICTIONARY:
                if number:
                    raise RowRefused("a dictionary comes after its column's first page")
                dictionary = _dictionary(page, at, CODECS[codec])
            else:
                values += _values(page)
        if values != integer(meta, 5):
            raise RowRefused("a column's pages do not have as many values as its metadata says")
        return Chunk(dictionary=dictionary)

    def _add(self, start: int, end: int) -> None:
        if start == end:
            return
        if not len(MAGIC) <= start < end <= self._end:
            raise RowRefused("one of its parts lies outside the file")
        self._ranges.append((start, end))

    def _add_bloom_filter(self, meta: Struct) -> None:
        start = integer(meta, 14)
        if 15 in meta:
            self._add(start, start + integer(meta, 15))
            return
        # Older writers give the length only in the filter's own header.
        header, at = self._header(start, self._end)
        self._add(start, at + integer(header, 1))

    def _pages(self, at: int, end: int) -> Iterator[tuple[int, Struct]]:
        """Yield where the bytes of each page start, and its header."""
        while at < end:
            page, at = self._header(at, end)
            yield at, page
            at += integer(page, 3)
            if integer(page, 2) > MAX_PAGE:
                raise RowRefused(f"a page is larger than {MAX_PAGE} bytes")
        if at != end:
            raise RowRefused("a column's pages do not end where the column ends")

    def _header(self, at: int, end: int) -> tuple[Struct, int]:
        size = _FIRST_READ
        while True:
            self._file.seek(at)
            data = self._file.read(min(size, end - at))
            reader = ThriftReader(data)
            try:
                return reader.struct(), at + reader.at
            except RowRefused:
                if size >= min(_MAX_PAGE_HEADER, end - at):
                    raise
                size *= 8


def _values(page: Struct) -> int:
    kind = integer(page, 1)
    if kind == _DATA:
        return integer(struct(page, 5), 1)
    if kind == _DATA_V2:
        return integer(struct(page, 8), 1)
    raise RowRefused("a page is neither a data page nor a dictionary page")


def _dictionary(page: Struct, at: int, codec: str | None) -> DictionaryPage:
    return DictionaryPage(
        start=at,
        packed=integer(page, 3),
        unpacked=integer(page, 2),
        values=integer(struct(page, 7), 1),
        codec=codec,
    )
