"""The strict reader: check every byte of canonical rows in bounded memory, and count the rows.

It does not trust where the rows come from, be that a converter in a child process or the input
itself: the trainer reads only lines that this reader has matched (`grammar`), and the digest covers
exactly these lines.
"""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from aicert.formats.digest import Digest
from aicert.frozen import dataclass
from aicert.records.errors import RowRefused
from aicert.records.grammar import MAX_LINE, MAX_PARTS, Grammar, oversize
from aicert.records.schema import Schema

BLOCK = 1 << 18
# More rows than any data set has; the count still fits a machine word.
MAX_ROWS = 10**12


@dataclass(frozen=True, slots=True)
class RowsFact:
    """The number of rows that were read, the number of their bytes, and the SHA-256 of these."""

    rows: int
    bytes: int
    digest: Digest


class NotCanonical(RowRefused):
    """Raised for the first row that is not canonical; `row` counts from 1."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row} {reason}")
        self.row = row


class Checker:
    """Checks rows that arrive in blocks of any size, one file after another; call `fact` last."""

    def __init__(self, schema: Schema) -> None:
        self._grammar = Grammar(schema)
        self._hash = hashlib.sha256()
        self._rows = 0
        self._bytes = 0
        self._rest: list[bytes] = []
        self._rest_size = 0

    def feed(self, data: bytes) -> None:
        """Check all complete lines; NotCanonical at the first line that is not canonical."""
        end = data.rfind(b"\n") + 1
        self._rest.append(data[: end or None])
        self._rest_size += len(self._rest[-1])
        if not end:
            if self._rest_size > MAX_LINE:
                raise NotCanonical(self._rows + 1, f"is longer than {MAX_LINE} bytes")
            return
        lines = b"".join(self._rest)
        self._rest, self._rest_size = [data[end:]], len(data) - end
        if len(lines) > MAX_PARTS:
            self._check_sizes(lines)
        rows, matched = self._grammar.prefix(lines)
        self._rows += rows
        if matched < len(lines):
            raise NotCanonical(self._rows + 1, "is not a canonical row of the schema")
        if self._rows > MAX_ROWS:
            raise NotCanonical(self._rows, f"is one of more than {MAX_ROWS}")
        self._hash.update(lines)
        self._bytes += len(lines)

    def _check_sizes(self, lines: bytes) -> None:
        for row, line in enumerate(lines.split(b"\n"), self._rows + 1):
            reason = oversize(line)
            if reason is not None:
                raise NotCanonical(row, f"is {reason}")

    def end_of_file(self) -> None:
        """Check that a file ended with a line feed: no row may continue in the next file."""
        if self._rest_size:
            raise NotCanonical(self._rows + 1, "has no line feed at its end")

    def fact(self) -> RowsFact:
        """Return what was read. Call it after the last block."""
        self.end_of_file()
        return RowsFact(self._rows, self._bytes, Digest("sha256", self._hash.hexdigest()))


def check(stream: BinaryIO, schema: Schema) -> RowsFact:
    """Check a whole stream of canonical rows. NotCanonical says which row is not canonical."""
    checker = Checker(schema)
    for data in blocks(stream):
        checker.feed(data)
    return checker.fact()


def blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a stream, in blocks."""
    # Until a larger piece of memory has been freed once, glibc returns each block's memory to the
    # system and takes it again, which costs as much as checking the block (mallopt(3),
    # M_MMAP_THRESHOLD).
    bytes(16 * BLOCK)
    while data := stream.read(BLOCK):
        yield data
