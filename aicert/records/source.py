"""One file of rows, opened by what its name says: its bytes in blocks, and its rows."""

import os
import stat
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from aicert.records.canonical import line_writer
from aicert.records.errors import RowRefused, RowsRefused
from aicert.records.forms import SUPPORTED, FileForm, form_of
from aicert.records.grammar import MAX_LINE
from aicert.records.infer import Columns
from aicert.records.jsonl import BOM, LineReader
from aicert.records.jsonrows import array_rows
from aicert.records.reader import Checker, NotCanonical, blocks
from aicert.records.schema import Schema


class Source:
    """A file below `root`. `learn` first, then `rows`: both read it from its start.

    `row_count` and `unread_bytes` are known after `learn`.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.path = root / name
        form = form_of(name)
        if form is None:
            raise RowsRefused(
                name, "rows are not read from files of this kind", hint=f"use {SUPPORTED}"
            )
        self.form: FileForm = form
        self.row_count = 0
        self.unread_bytes = 0
        self._reader = LineReader()

    def learn(self, columns: Columns) -> None:
        """Widen `columns` by the rows of this file."""
        self._reader = LineReader()
        try:
            content = self._content()
            if content.is_array:
                for row in self._array(content):
                    columns.absorb(row)
            else:
                self._reader.learn(content.blocks, columns)
        except RowRefused as error:
            raise error.at(self.name, self._reader.row or None) from None
        self.row_count = self._reader.row

    def rows(self, schema: Schema) -> Iterator[bytes]:
        """The canonical rows of this file, in blocks."""
        self._reader = LineReader()
        try:
            content = self._content()
            if content.is_array:
                write = line_writer(schema)
                yield from map(write, self._array(content))
            else:
                yield from self._reader.rows(content.blocks, schema)
        except RowRefused as error:
            raise error.at(self.name, self._reader.row or None) from None

    def is_canonical(self, checker: Checker) -> bool:
        """Whether the file's own bytes go on as canonical rows where `checker` stands."""
        if self.form.form != "json" or self.form.packing is not None:
            return False
        try:
            for data in self._blocks():
                checker.feed(data)
            checker.end_of_file()
        except NotCanonical:
            return False
        return True

    def _array(self, content: "_Content") -> Iterator[dict[str, object]]:
        for row in array_rows(content.blocks, MAX_LINE):
            self._reader.row += 1
            yield row

    def _content(self) -> "_Content":
        return _Content(self._blocks())

    def _blocks(self) -> Iterator[bytes]:
        # What stands there was measured; it is opened as what was measured.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags)
        except OSError as error:
            raise RowRefused(f"cannot be read: {error.strerror}") from None
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RowRefused("no file")
            yield from blocks(file)


class _Content:
    """Blocks of text in JSON without a byte order mark, and whether they are one array."""

    def __init__(self, data: Iterator[bytes]) -> None:
        head = b""
        while not head.removeprefix(BOM).strip(b" \t\r\n"):
            block = next(data, b"")
            if not block:
                break
            # What is nothing but space says nothing; the line it stands on is blank.
            head = head[: len(BOM)] + block if len(head) > MAX_LINE else head + block
        head = head.removeprefix(BOM)
        self.is_array = head.lstrip(b" \t\r\n").startswith(b"[")
        self.blocks: Iterator[bytes] = chain((head,), data)
