"""Count the rows of a data file, by its format; None if that is unknown.

This is for a reviewer's orientation: the bytes are hostile, and the number decides nothing. Known
formats: JSON Lines, CSV and TSV (with a header line), Parquet (its footer, Apache Parquet format
2.10, which is a Thrift compact structure).
"""

import csv
import io

_SEPARATORS = {"csv": ",", "tsv": "\t"}
_MAGIC = b"PAR1"
# Thrift compact protocol: field types.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_MAX_DEPTH = 32
_NUM_ROWS = 3


def rows(name: str, data: bytes) -> int | None:
    """Return the number of rows in the file `name` with content `data`."""
    kind = name.rpartition(".")[2].lower()
    if kind in ("jsonl", "ndjson"):
        return sum(1 for line in data.split(b"\n") if line.strip())
    if kind in _SEPARATORS:
        return _delimited(data, _SEPARATORS[kind])
    if kind == "parquet":
        return _parquet(data)
    return None


def _delimited(data: bytes, separator: str) -> int | None:
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=separator)
        return max(0, sum(1 for row in reader if row) - 1)
    except (UnicodeDecodeError, csv.Error):
        return None


def _parquet(data: bytes) -> int | None:
    if len(data) < 12 or data[:4] != _MAGIC or data[-4:] != _MAGIC:
        return None
    size = int.from_bytes(data[-8:-4], "little")
    if not 0 < size <= len(data) - 12:
        return None
    try:
        return _Thrift(data[-8 - size : -8]).number(_NUM_ROWS)
    except (IndexError, ValueError):
        return None


class _Thrift:
    """Reads one structure in the Thrift compact protocol; ValueError or IndexError if it is bad."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, wanted: int) -> int | None:
        """Return the integer field `wanted` of the structure that starts here."""
        field = 0
        while True:
            field, kind = self._field(field)
            if kind == 0:
                return None
            if field == wanted and kind in (_I16, _I32, _I64):
                return self._zigzag()
            self._skip(kind, 0)

    def _field(self, last: int) -> tuple[int, int]:
        head = self._byte()
        if head & 15 == 0:
            return last, 0
        return (last + (head >> 4) if head >> 4 else self._zigzag()), head & 15

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError("varint too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if kind in (_I16, _I32, _I64):
            self._varint()
        elif kind == _BYTE:
            self._at += 1
        elif kind == _DOUBLE:
            self._at += 8
        elif kind == _BINARY:
            self._at += self._varint()
        elif kind in (_LIST, _SET):
            self._skip_list(depth)
        elif kind == _MAP:
            self._skip_map(depth)
        elif kind == _STRUCT:
            while (inner := self._field(0)[1]) != 0:
                self._skip(inner, depth + 1)
        elif kind not in (_TRUE, _FALSE):
            raise ValueError("unknown type")

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        for _ in range(count):
            self._element(head & 15, depth)

    def _skip_map(self, depth: int) -> None:
        count = self._varint()
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._element(kinds >> 4, depth)
            self._element(kinds & 15, depth)

    def _element(self, kind: int, depth: int) -> None:
        # In a collection a boolean is one byte.
        if self._at > len(self._data):
            raise ValueError("ends too early")
        self._skip(_BYTE if kind in (_TRUE, _FALSE) else kind, depth + 1)
