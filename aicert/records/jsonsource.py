"""Read rows from a JSON file: lines of objects or one array of objects, as its beginning shows."""

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
    """A reader for the rows of one JSON file, in lines or in an array."""

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
        """The lines that are known to match the schema (`LineReader`); None before `learn`."""
        return self._lines.matched

    @matched.setter
    def matched(self, value: Matched | None) -> None:
        self._lines.matched = value

    def learn(self, columns: Columns) -> None:
        """Widen `columns` so that the rows fit."""
        self._is_array, blocks = _look(self._blocks)
        if self._is_array:
            for row in self._array(blocks):
                columns.absorb(row)
        else:
            self._lines.learn(blocks, columns)

    def is_canonical(self, columns: Columns, grammar: Grammar) -> bool | None:
        """Return whether the file is canonical as it is; call `learn` first.

        None if that can be decided only by reading it again.
        """
        return False if self._is_array else self._lines.is_canonical(columns, grammar)

    def rows(self, schema: Schema) -> Iterator[bytes]:
        """Yield the canonical rows, in blocks."""
        is_array, blocks = _look(self._blocks)
        if is_array:
            yield from map(line_writer(schema), self._array(blocks))
        else:
            yield from self._lines.rows(blocks, schema)

    def _array(self, blocks: Iterator[bytes]) -> Iterator[dict[str, object]]:
        # A row is counted before it is read, so that errors name the row that cannot be read.
        rows = array_rows(blocks, MAX_LINE)
        while True:
            self.row += 1
            row = next(rows, None)
            if row is None:
                self.row -= 1
                return
            yield row


def without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield `blocks` without a byte order mark at the beginning."""
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
    """Return whether the content begins with an array, and the blocks unchanged."""
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
