"""Read one file of rows, in the format that its name implies."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Protocol

from aicert.formats import lfs
from aicert.records.csvrows import CsvReader
from aicert.records.errors import RowRefused, RowsRefused
from aicert.records.forms import SUPPORTED, FileForm, Form, form_of
from aicert.records.grammar import Grammar
from aicert.records.infer import Columns
from aicert.records.jsonsource import MARK, JsonReader, without_mark
from aicert.records.packing import unpacked
from aicert.records.parquet import ParquetReader
from aicert.records.reader import NotCanonical, blocks, check
from aicert.records.schema import Schema
from aicert.records.textrows import TextReader


class RowReader(Protocol):
    """A reader for one format; `row` is the number of the row that was read last."""

    row: int

    def learn(self, columns: Columns) -> None:
        """Widen `columns` so that the rows fit."""

    def rows(self, schema: Schema) -> Iterator[bytes]:
        """Yield the canonical rows, in blocks."""


_TEXTS: dict[Form, Callable[[Iterator[bytes]], RowReader]] = {
    "json": JsonReader,
    "csv": CsvReader,
    "text": TextReader,
}


class Source:
    """A file of rows below `root`. Call `learn`, then `rows`; both read the file from its start.

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
        self._learned: JsonReader | None = None

    def learn(self, columns: Columns) -> None:
        """Widen `columns` by the rows of this file."""
        with self._reader() as reader:
            reader.learn(columns)
            self.row_count = reader.row
            self.unread_bytes = getattr(reader, "unread_bytes", 0)
            self._learned = reader if isinstance(reader, JsonReader) else None

    def rows(self, schema: Schema) -> Iterator[bytes]:
        """Yield the canonical rows of this file, in blocks."""
        with self._reader() as reader:
            if self._learned is not None and isinstance(reader, JsonReader):
                reader.matched = self._learned.matched
            yield from reader.rows(schema)

    def is_canonical(self, columns: Columns, schema: Schema) -> bool:
        """Return whether the file's own bytes are the canonical rows.

        Call it after `learn` of all files, with the columns and the schema of all.
        """
        if self.form != FileForm("json", None) or not self._ends_well():
            return False
        known = None
        if self._learned is not None:
            known = self._learned.is_canonical(columns, Grammar(schema))
        return self._is_checked(schema) if known is None else known

    def _ends_well(self) -> bool:
        """Return whether the file begins without byte order mark and ends with a line feed."""
        with self._opened() as file:
            mark = file.read(len(MARK))
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            return mark != MARK and file.read(1) in (b"\n", b"")

    def _is_checked(self, schema: Schema) -> bool:
        try:
            with self._opened() as file:
                check(file, schema)
        except NotCanonical:
            return False
        return True

    @contextmanager
    def _reader(self) -> Iterator[RowReader]:
        """Open a reader for one pass over this file, and add file and row to its refusals."""
        reader: RowReader | None = None
        try:
            with self._opened() as file:
                self._refuse_pointer(file)
                packing = self.form.packing
                content = blocks(file) if packing is None else unpacked(file, packing)
                if self.form.form != "parquet":
                    reader = _TEXTS[self.form.form](without_mark(content))
                    yield reader
                    return
                with TemporaryFile() if packing is not None else nullcontext(file) as whole:
                    if packing is not None:
                        # pyarrow begins to read at the end, so it needs the whole file.
                        whole.writelines(content)
                    reader = ParquetReader(whole)
                    yield reader
        except RowRefused as error:
            row = None if reader is None else reader.row or None
            raise error.at(self.name, row) from None

    def _refuse_pointer(self, file: BinaryIO) -> None:
        """Refuse a Git LFS pointer, which would be read as rows of text or CSV."""
        if lfs.is_pointer(file.read(lfs.HEAD)):
            raise RowsRefused(self.name, lfs.REASON, hint=lfs.HINT)
        file.seek(0)

    def _opened(self) -> BinaryIO:
        # This path was measured as a regular file, so anything else is refused.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags)
        except OSError as error:
            raise RowsRefused(self.name, f"cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise RowsRefused(self.name, "no file")
        return open(descriptor, "rb")
