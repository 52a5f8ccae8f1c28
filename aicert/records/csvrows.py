"""Read rows from CSV (RFC 4180): UTF-8, commas, double quotes, column names in the first line.

CSV has no types. A column holds integers, floats or booleans if each of its values is written
exactly as we would write it, so that no character is lost; otherwise it is text. An empty field is
null; words such as `NA` stay text.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence

from aicert.records.canonical import MAX_EXACT, line_writer
from aicert.records.errors import RowRefused, quoted
from aicert.records.grammar import MAX_INT, MAX_LINE
from aicert.records.infer import Columns
from aicert.records.jsonl import whole_lines
from aicert.records.jsonrows import as_text
from aicert.records.schema import MAX_NODES, Scalar, Schema, check_name

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FLOAT = re.compile(r"-?[0-9]{1,22}(?:\.[0-9]{1,22})?(?:e[-+][0-9]{1,3})?")
_BOOLS = {"True": True, "False": False, "true": True, "false": False}
_CANDIDATES: tuple[Scalar, ...] = ("bool", "int", "float")
_TEXT: frozenset[str] = frozenset()


class CsvReader:
    """A reader for the records of one source; `row` counts them, without the line of names."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.row = 0

    def learn(self, columns: Columns) -> None:
        """Widen `columns` by the types that the values can have."""
        records = self._records(self._blocks)
        names = _names(next(records, []))
        able: list[frozenset[str] | None] = [None] * len(names)
        for values in records:
            self._check_width(names, values)
            for place, value in enumerate(values):
                before = able[place]
                if value != "" and before != _TEXT:
                    able[place] = _able(value) if before is None else before & _able(value)
        columns.absorb_text({name: _kind(kinds) for name, kinds in zip(names, able, strict=True)})

    def rows(self, schema: Schema) -> Iterator[bytes]:
        """Yield the canonical rows."""
        write = line_writer(schema)
        records = self._records(self._blocks)
        names = _names(next(records, []))
        kinds = dict(schema.columns)
        reads = [_READERS.get(str(kinds[name]), _text) for name in names]
        for values in records:
            self._check_width(names, values)
            read = (
                None if value == "" else read(value)
                for read, value in zip(reads, values, strict=True)
            )
            yield write(dict(zip(names, read, strict=True)))

    def _check_width(self, names: Sequence[str], values: Sequence[str]) -> None:
        self.row += 1
        if len(values) != len(names):
            raise RowRefused(f"it has {len(values)} fields, but there are {len(names)} columns")

    def _records(self, blocks: Iterator[bytes]) -> Iterator[list[str]]:
        csv.field_size_limit(MAX_LINE)
        reader = csv.reader(_lines(blocks), strict=True)
        while True:
            try:
                record = next(reader, None)
            except csv.Error as error:
                self.row += 1
                raise RowRefused(f"not CSV: {error}") from None
            if record is None:
                return
            if record:
                yield record


def _lines(blocks: Iterator[bytes]) -> Iterator[str]:
    for block in whole_lines(blocks):
        for line in as_text(block).split("\n")[:-1]:
            yield f"{line}\n"


def _names(record: list[str]) -> tuple[str, ...]:
    if not record:
        raise RowRefused("there is no line with the column names")
    if len(record) > MAX_NODES:
        raise RowRefused(f"there are more than {MAX_NODES} columns")
    for name in record:
        check_name(name)
        if record.count(name) > 1:
            raise RowRefused(f"there are two columns {quoted(name)}")
    return tuple(record)


def _kind(able: frozenset[str] | None) -> Scalar:
    """Return the type of a column, given the types that all its values can have.

    `able` is None if the column has no value.
    """
    if able is None:
        return "null"
    return next((kind for kind in _CANDIDATES if kind in able), "string")


def _able(value: str) -> frozenset[str]:
    """Return the types, besides text, that `value` can have without losing a character."""
    if value in _BOOLS:
        return frozenset(("bool",))
    if _INTEGER.fullmatch(value):
        number = int(value)
        if -MAX_EXACT <= number <= MAX_EXACT:
            return frozenset(("int", "float"))
        return frozenset(("int",)) if -MAX_INT - 1 <= number <= MAX_INT else _TEXT
    if _FLOAT.fullmatch(value) and repr(float(value)) == value:
        return frozenset(("float",))
    return _TEXT


def _text(value: str) -> str:
    return value


def _number(value: str) -> float:
    # An integer stays an integer until `canonical` has checked that it is exact as a float.
    return int(value) if _INTEGER.fullmatch(value) else float(value)


_READERS: dict[str, Callable[[str], object]] = {
    "bool": _BOOLS.__getitem__,
    "int": int,
    "float": _number,
}
