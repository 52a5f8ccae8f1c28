"""A file of JSON: lines of objects or one array of them, as its beginning shows."""

from collections.abc import Iterator
from itertools import chain

from aicert.records.canonical import line_writer
from aicert.records.errors import RowRefused
from aicert.records.grammar import MAX_LINE, Grammar
from aicert.records.infer import Columns
from aicert.records.jsonl import LineReader, Matched
from aicert.records.jsonrows import array_rows
from aicert.records.schema import Schema

# UTF-8 with a byte order mark, as spreadsheets write it.
MARK = b"\xef\xbb\xbf"


class JsonReader:
    """The rows of one source; `row` is the number of the one that was read last."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._lines = LineReader()
        self._is_array = False

    @property
    def row(self) -> int:
        """The number of the row that was read last."""
        return self._lines.row

    @row.setter
    def row(self, value: int) -> None:
        self._lines.row = value

    @property
    def matched(self) -> Matched | None:
        """What was learned about where lines match (`LineReader`)."""
        return self._lines.matched

    @matched.setter
    def matched(self, value: Matched | None) -> None:
        self._lines.matched = value

    def learn(self, columns: Columns) -> None:
        """Widen `columns` by what the rows hold."""
        self._is_array, blocks = _look(self._blocks)
        if self._is_array:
            for row in self._array(blocks):
                columns.absorb(row)
        else:
            self._lines.learn(blocks, columns)

    def is_canonical(self, columns: Columns, grammar: Grammar) -> bool | None:
        """Whether the file is canonical as it is, once it was learned from; None if it has to be
        read.
        """
        return False if self._is_array else self._lines.is_canonical(columns, grammar)

    def rows(self, schema: Schema) -> Iterator[bytes]:
        """The canonical rows, in blocks."""
        is_array, blocks = _look(self._blocks)
        if is_array:
            yield from map(line_writer(schema), self._array(blocks))
        else:
            yield from self._lines.rows(blocks, schema)

    def _array(self, blocks: Iterator[bytes]) -> Iterator[dict[str, object]]:
        # A row is counted before it is read, so that one that cannot be read has its number.
        rows = array_rows(blocks, MAX_LINE)
        while True:
            self.row += 1
            row = next(rows, None)
            if row is None:
                self.row -= 1
                return
            yield row


def without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """`blocks` without a byte order mark at the beginning."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= len(MARK):
            break
    head = head.removeprefix(MARK)
    # An empty block would mean the end.
    if head:
        yield head
    yield from blocks


def _look(blocks: Iterator[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Whether an array begins here, and the blocks unchanged."""
    space: list[bytes] = []
    size = 0
    for block in blocks:
        first = block.lstrip(b" \t\r\n")
        if first:
            return first.startswith(b"["), chain(space, (block,), blocks)
        space.append(block)
        size += len(block)
        if size > MAX_LINE:
            raise RowRefused(f"begins with more than {MAX_LINE} bytes of space")
    return False, iter(space)
