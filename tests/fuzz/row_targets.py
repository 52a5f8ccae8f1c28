"""Fuzz targets of the row readers; their results are compared with Python's own json.

A converter turns bytes of any form into rows or refuses them; the strict reader, an independent
one, must find as many rows.
"""

import gzip
import io
import json
from collections.abc import Callable, Iterator
from typing import BinaryIO

from aicert.records.csvrows import CsvReader
from aicert.records.grammar import Grammar
from aicert.records.infer import Columns
from aicert.records.jsonsource import JsonReader, without_mark
from aicert.records.packing import check_frames, unpacked
from aicert.records.parquet_layout import layout
from aicert.records.reader import Checker
from aicert.records.schema import ListOf, Schema, StructOf, Type
from aicert.records.source import RowReader
from aicert.records.textrows import TextReader
from aicert.records.thrift import ThriftReader

SCHEMA = Schema(
    (
        ("text", "string"),
        ("n", "int"),
        ("f", ListOf("float")),
        ("o", StructOf((("b", "bool"), ("l", ListOf(ListOf("string"))), ("z", "null")))),
    )
)
_GRAMMAR = Grammar(SCHEMA)
BLOCK = 1 << 12


class DisagreementError(Exception):
    """Two ways to read the same bytes give different rows."""


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield small blocks, so that rows cross their borders."""
    while block := file.read(BLOCK):
        yield block


def is_canonical(line: bytes, schema: Schema) -> bool:
    """Return whether json reads and writes this line unchanged, and the row fits the schema."""
    try:
        row = json.loads(line)
        again = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return again.encode() == line and row is not None and fits(row, StructOf(schema.columns))
    except (ValueError, RecursionError):
        return False


def fits(value: object, kind: Type) -> bool:
    """Return whether a value has a type, with its fields in order."""
    if value is None:
        return True
    if isinstance(kind, ListOf):
        return isinstance(value, list) and all(fits(item, kind.item) for item in value)
    if isinstance(kind, StructOf):
        names = [name for name, _ in kind.fields]
        return (
            isinstance(value, dict)
            and list(value) == names
            and all(fits(value[name], inner) for name, inner in kind.fields)
        )
    if kind == "int":
        return type(value) is int and -(2**63) <= value < 2**63
    return type(value) is {"string": str, "float": float, "bool": bool}.get(kind)


def _rows(data: bytes) -> None:
    lines = data.split(b"\n")[:-1]
    whole = b"".join(line + b"\n" for line in lines)
    matched = _GRAMMAR.prefix(whole)
    good = 0
    while good < len(lines) and is_canonical(lines[good], SCHEMA):
        good += 1
    if matched != (good, sum(len(line) + 1 for line in lines[:good])):
        raise DisagreementError(f"{matched} of {good} rows: {data!r:.300}")
    Checker(SCHEMA).feed(data)


def _schema(data: bytes) -> None:
    schema = Schema.parse(data)
    if schema.emit() != data:
        raise DisagreementError(data[:200])
    Grammar(schema)


def _converted(make: Callable[[Iterator[bytes]], RowReader], data: bytes) -> None:
    columns = Columns()
    first = make(without_mark(blocks(io.BytesIO(data))))
    first.learn(columns)
    schema = columns.schema()
    checker = Checker(schema)
    for block in make(without_mark(blocks(io.BytesIO(data)))).rows(schema):
        checker.feed(block)
    if checker.fact().rows != first.row:
        raise DisagreementError(data[:200])


def _gzip(data: bytes) -> None:
    content = b"".join(unpacked(io.BytesIO(data), "gzip"))
    if content != gzip.decompress(data):
        raise DisagreementError(data[:200])


def _zstd(data: bytes) -> None:
    # Our own code only: pyarrow is not available here.
    check_frames(io.BytesIO(data))


def _parquet(data: bytes) -> None:
    layout(io.BytesIO(data))


def _thrift(data: bytes) -> None:
    ThriftReader(data).struct()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "rows": _rows,
    "rows-csv": lambda data: _converted(CsvReader, data),
    "rows-gzip": _gzip,
    "rows-json": lambda data: _converted(JsonReader, data),
    "rows-parquet": _parquet,
    "rows-schema": _schema,
    "rows-text": lambda data: _converted(TextReader, data),
    "rows-thrift": _thrift,
    "rows-zstd": _zstd,
}


def seeds(parquet: bytes) -> dict[str, tuple[bytes, ...]]:
    """Return valid inputs of each target."""
    row = {"text": "é\n\x01\\", "n": -12, "f": [1.5, -1e-07, None], "o": None}
    other = row | {"n": 2**63 - 1, "o": {"b": True, "l": [["}\n{"], []], "z": None}}
    lines = b"".join(
        json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        for each in (row, other, row)
    )
    plain = json.dumps([row, other], indent=1).encode()
    spaced = b"".join(json.dumps(each).encode() + b"\r\n" for each in (row, other) * 8)
    frame = b"\x28\xb5\x2f\xfd\x20\x03\x19\0\0abc"
    return {
        "rows": (lines, lines[: lines.index(b"\n") + 1]),
        "rows-csv": (b'a,b,"c d"\r\n1,"x\ny",0.5\r\n,True,"p""q"\r\n', b"x\n1\n2\n"),
        "rows-gzip": (gzip.compress(lines, mtime=0), gzip.compress(b"", mtime=0) * 2),
        "rows-json": (lines, plain, spaced, b'\xef\xbb\xbf{"a":1}\n\n{"b":0.5}'),
        "rows-parquet": (parquet,),
        "rows-schema": (SCHEMA.emit(), b'{"columns":[["a","null"]],"version":1}'),
        "rows-text": (b"a\r\n\nb", "é\u2028".encode()),
        "rows-thrift": (b"\x15\x02\x19\x25\x02\x04\x1c\x11\x00\x18\x01a\x00",),
        "rows-zstd": (frame, frame * 2, b"\x28\xb5\x2f\xfd\x04\x00\x0b\0\0a\1\2\3\4"),
    }
