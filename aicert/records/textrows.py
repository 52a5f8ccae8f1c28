"""Read rows from text: each line is a row `{"text": …}`, as `datasets` reads text.

A line may end only with a line feed, or with a carriage return and a line feed.
"""

from collections.abc import Iterator

from aicert.records.canonical import line_writer
from aicert.records.errors import RowRefused
from aicert.records.infer import Columns
from aicert.records.jsonl import whole_lines
from aicert.records.jsonrows import as_text
from aicert.records.schema import Schema

COLUMN = "text"


class TextReader:
    """A reader for the lines of one source; `row` is the number of the line that was read last."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.row = 0

    def learn(self, columns: Columns) -> None:
        """Add the only column, `text`, to `columns`, and count the rows."""
        for _ in self._lines(self._blocks):
            pass
        if self.row:
            columns.absorb({COLUMN: ""})

    def rows(self, schema: Schema) -> Iterator[bytes]:
        """Yield the canonical rows, in blocks."""
        write = line_writer(schema)
        for lines in self._lines(self._blocks):
            yield b"".join([write({COLUMN: line}) for line in lines])

    def _lines(self, blocks: Iterator[bytes]) -> Iterator[list[str]]:
        for block in whole_lines(blocks):
            try:
                text = as_text(block).replace("\r\n", "\n")
            except RowRefused:
                # Decode line by line, so that `row` is the number of the line that is refused.
                lines_alone = iter(block.split(b"\n"))
                while True:
                    self.row += 1
                    as_text(next(lines_alone))
            if "\r" in text:
                self.row += text.count("\n", 0, text.index("\r")) + 1
                raise RowRefused(
                    "there is a carriage return inside the line, which readers treat differently"
                )
            lines = text[:-1].split("\n")
            self.row += len(lines)
            yield lines
