"""Read rows from Parquet: pyarrow reads them; `parquet_layout` checks that no bytes are left over.

Only a column's Arrow type counts: the metadata of other libraries, which would turn a column into
images or sounds, is ignored. Types that canonical rows do not have are refused. A dictionary value
that no row of its row group uses counts as unread.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

from aicert.records.arrow import pyarrow
from aicert.records.canonical import line_writer
from aicert.records.errors import RowRefused, quoted
from aicert.records.infer import Columns
from aicert.records.parquet_layout import DictionaryPage, RowGroup, layout
from aicert.records.schema import MAX_DEPTH, ListOf, Schema, StructOf, Type

# The approximate size of a batch, in bytes.
_BATCH = 4 << 20
_MOST_ROWS = 4096
_BUFFER = 1 << 20


class ParquetReader:
    """A reader for the rows of one file.

    `row`: after `learn`, the number of rows; during `rows`, the number of the last row.
    `unread_bytes`: known after `learn`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.row = 0
        self.unread_bytes = 0
        self._groups = layout(file)
        self._file = file
        self._arrow = pyarrow(".parquet")
        parquet = pyarrow(".parquet", "pyarrow.parquet")
        file.seek(0)
        try:
            # Pages are read as they are needed, not whole row groups at once.
            self._parquet = parquet.ParquetFile(
                file, pre_buffer=False, buffer_size=_BUFFER, arrow_extensions_enabled=False
            )
            self._fields = list(self._parquet.schema_arrow)
        except (self._arrow.ArrowException, OSError) as error:
            raise RowRefused(f"not Parquet: {error}") from None

    def learn(self, columns: Columns) -> None:
        """Widen `columns` by those of the file, and count the bytes that are in no row."""
        columns.absorb_schema(
            Schema(tuple((field.name, _type(field.type, field.name)) for field in self._fields))
        )
        for number, group in enumerate(self._groups):
            self._count_unread(number, group)
            self.row += group.rows

    def rows(self, schema: Schema) -> Iterator[bytes]:
        """Yield the canonical rows, in blocks."""
        write = line_writer(schema)
        names = [field.name for field in self._fields]
        for number, group in enumerate(self._groups):
            for batch in self._batches(number, group):
                values = [
                    self._values(column, name)
                    for column, name in zip(batch.columns, names, strict=True)
                ]
                lines = []
                for row in zip(*values, strict=True):
                    self.row += 1
                    lines.append(write(dict(zip(names, row, strict=True))))
                yield b"".join(lines)

    def _values(self, column: Any, name: str) -> list[object]:
        """Return the values of a column; if one is refused, `row` becomes the number of its row."""
        try:
            plain = column.cast(_plain(self._arrow, column.type))
            plain.validate(full=True)
            values: list[object] = plain.to_pylist()
            return values
        except (self._arrow.ArrowException, UnicodeDecodeError) as error:
            if len(column) > 1:
                half = len(column) // 2
                return self._values(column[:half], name) + self._after(column, half, name)
            self.row += 1
            raise RowRefused(f"column {quoted(name)}: {error}") from None

    def _after(self, column: Any, start: int, name: str) -> list[object]:
        self.row += start
        values = self._values(column[start:], name)
        self.row -= start
        return values

    def _batches(self, number: int, group: RowGroup) -> Iterator[Any]:
        longest = sum(
            chunk.dictionary.unpacked for chunk in group.chunks if chunk.dictionary is not None
        )
        rows = _BATCH // (group.unpacked // max(1, group.rows) + longest // 16 + 1)
        try:
            yield from self._parquet.iter_batches(
                batch_size=max(1, min(rows, _MOST_ROWS)), row_groups=[number], use_threads=False
            )
        except (self._arrow.ArrowException, OSError) as error:
            raise RowRefused(f"its rows cannot be read: {error}") from None

    def _count_unread(self, number: int, group: RowGroup) -> None:
        """Count the bytes of dictionary values that no row uses."""
        unseen = {
            leaf: self._dictionary(chunk.dictionary, leaf)
            for leaf, chunk in enumerate(group.chunks)
            if chunk.dictionary is not None
        }
        if not any(unseen.values()):
            return
        for batch in self._batches(number, group):
            for leaf, values in enumerate(_leaves(self._arrow, batch.columns)):
                if unseen.get(leaf):
                    unseen[leaf] -= _seen(self._arrow, values)
        self.unread_bytes += sum(len(value) for values in unseen.values() for value in values)

    def _dictionary(self, page: DictionaryPage, leaf: int) -> set[bytes]:
        """Return the values of a dictionary page, each as the bytes that encode it."""
        self._file.seek(page.start)
        data: bytes = self._file.read(page.packed)
        if page.codec is not None:
            try:
                data = self._arrow.decompress(data, page.unpacked, codec=page.codec, asbytes=True)
            except (self._arrow.ArrowException, OSError, ValueError) as error:
                raise RowRefused(f"a dictionary cannot be unpacked: {error}") from None
        physical = self._parquet.schema.column(leaf).physical_type
        values = list(_plain_values(data, physical, page.values))
        if len(data) != sum(map(len, values)) + (
            4 * len(values) if physical == "BYTE_ARRAY" else 0
        ):
            raise RowRefused("there are bytes after the last value of a dictionary")
        return set(values)


_SIZES = {"INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8, "FIXED_LEN_BYTE_ARRAY": 2}


def _plain_values(data: bytes, physical: str, count: int) -> Iterator[bytes]:
    """Split data in the PLAIN encoding (0 in Parquet's list) into the bytes of each value."""
    size = _SIZES.get(physical)
    if size is None and physical != "BYTE_ARRAY":
        raise RowRefused("a column has a dictionary, but its type cannot have one")
    at = 0
    for _ in range(count):
        if size is None:
            length = int.from_bytes(data[at : at + 4], "little")
            at += 4
        else:
            length = size
        if at + length > len(data):
            raise RowRefused("a dictionary ends too early")
        yield data[at : at + length]
        at += length


def _leaves(arrow: Any, arrays: list[Any]) -> Iterator[Any]:
    """Yield the leaf columns below `arrays`, in the order in which Parquet stores them."""
    for array in arrays:
        types = arrow.types
        if types.is_struct(array.type):
            yield from _leaves(arrow, array.flatten())
        elif (
            types.is_list(array.type)
            or types.is_large_list(array.type)
            or types.is_fixed_size_list(array.type)
        ):
            yield from _leaves(arrow, [array.flatten()])
        else:
            yield array


def _seen(arrow: Any, values: Any) -> set[bytes]:
    """Return the distinct values of a leaf column, as the bytes that a dictionary would hold."""
    kind = values.type
    if arrow.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    distinct = values.unique().drop_null()
    if _is_text(arrow.types, kind):
        return set(distinct.cast(arrow.large_binary()).to_pylist())
    if arrow.types.is_integer(kind):
        # Parquet stores integers in 32 or 64 bits; unsigned ones keep their bits.
        wide = 8 if kind.bit_width == 64 else 4
        mask = (1 << 8 * wide) - 1
        return {(value & mask).to_bytes(wide, "little") for value in distinct.to_pylist()}
    size = kind.bit_width // 8
    buffer = distinct.buffers()[1]
    data = b"" if buffer is None else buffer.to_pybytes()[distinct.offset * size :]
    return {data[at : at + size] for at in range(0, len(distinct) * size, size)}


def _is_text(types: Any, kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_list(types: Any, kind: Any) -> bool:
    plain = types.is_list(kind) or types.is_large_list(kind)
    return bool(plain or types.is_fixed_size_list(kind))


def _type(kind: Any, name: str, depth: int = 0) -> Type:
    """Return the type that a column has in canonical rows; RowRefused if there is none."""
    types = pyarrow(".parquet", "pyarrow.types")
    if depth > MAX_DEPTH:
        raise RowRefused(f"column {quoted(name)} is nested deeper than {MAX_DEPTH} levels")
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_struct(kind):
        return StructOf(tuple((item.name, _type(item.type, name, depth + 1)) for item in kind))
    if _is_list(types, kind):
        return ListOf(_type(kind.value_type, name, depth + 1))
    if _is_text(types, kind):
        return "string"
    if types.is_integer(kind):
        return "int"
    if types.is_floating(kind):
        return "float"
    if types.is_boolean(kind):
        return "bool"
    if types.is_null(kind):
        return "null"
    raise RowRefused(_why(types, kind, name))


def _why(types: Any, kind: Any, name: str) -> str:
    column = f"column {quoted(name)} holds"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return f"{column} bytes, such as images or sounds, which no training reads yet"
    return f"{column} values of type {quoted(str(kind))}: write them as strings or numbers"


def _plain(arrow: Any, kind: Any) -> Any:
    """Return the Arrow type that holds the same values without loss, the same for all variants."""
    types = arrow.types
    if types.is_dictionary(kind):
        return _plain(arrow, kind.value_type)
    if types.is_struct(kind):
        return arrow.struct([(item.name, _plain(arrow, item.type)) for item in kind])
    if _is_list(types, kind):
        return arrow.large_list(_plain(arrow, kind.value_type))
    if _is_text(types, kind):
        return arrow.large_string()
    if types.is_integer(kind):
        return arrow.int64()
    return arrow.float64() if types.is_floating(kind) else kind
