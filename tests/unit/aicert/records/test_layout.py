"""The layout of a Parquet file, read without pyarrow: a fuzzer's file, and edits of its bytes."""

import io
from pathlib import Path

import pytest

from aicert.records.errors import RowRefused
from aicert.records.parquet_layout import layout
from aicert.records.thrift import ThriftReader, integer, struct, structs

FILE = (Path(__file__).parents[3] / "fuzz" / "rows.parquet").read_bytes()


def test_every_part_is_found() -> None:
    groups = layout(io.BytesIO(FILE))
    assert [group.rows for group in groups] == [2, 1]
    assert [len(group.chunks) for group in groups] == [4, 4]
    first = groups[0].chunks[0].dictionary
    assert first is not None
    assert (first.values, first.codec) == (2, "zstd")


@pytest.mark.parametrize("at", range(4, len(FILE) - 8, 41))
def test_a_byte_more_anywhere_is_refused(at: int) -> None:
    with pytest.raises(RowRefused):
        layout(io.BytesIO(FILE[:at] + b"\0" + FILE[at:]))


@pytest.mark.parametrize("at", range(0, len(FILE), 41))
def test_a_byte_less_anywhere_is_refused(at: int) -> None:
    with pytest.raises(RowRefused):
        layout(io.BytesIO(FILE[:at] + FILE[at + 1 :]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x1c" * 20, "nested too deeply"),
        (b"\x19" + b"\x19" * 20, "ends too early"),
        (b"\x19\xf9\x7f", "ends too early"),
        (b"\x15" + b"\xff" * 12, "a number that is too long"),
        (b"\x18\x05ab", "ends too early"),
        (b"\x1b\x00", "cannot be read"),
        (b"\x15", "ends too early"),
    ],
)
def test_metadata_that_is_none_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(RowRefused, match=reason):
        ThriftReader(data).struct()


def test_metadata_is_read_by_field() -> None:
    # An integer, true, false, a byte, a double, a text, a list of booleans, and a field far away.
    data = b"\x15\x02\x11\x12\x13\x05\x17" + bytes(8)
    data += b"\x18\x02ab\x19\x21\x01\x02" + b"\x05\x80\x02\x03\x00"
    read = ThriftReader(data).struct()
    assert read == {1: 1, 2: True, 3: False, 4: 5, 5: bytes(8), 6: b"ab", 7: [1, 2], 128: -2}


def test_what_metadata_lacks_is_said() -> None:
    for read in (integer, struct, structs):
        values: tuple[dict[int, object], ...] = ({}, {1: -1}, {1: [1]})
        for value in values:
            with pytest.raises(RowRefused, match="its metadata lacks"):
                read(value, 1)
