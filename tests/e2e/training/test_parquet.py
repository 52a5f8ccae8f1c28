"""Rows in Parquet and zstd, read by pyarrow: the training environment's, in this process.

pyarrow also writes the files here; what its reader would overlook is put into files by hand.
"""

import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aicert.errors import AicertError
from aicert.records.errors import RowsRefused
from rules.host import training_env
from tests.fuzz.mutate import mutated
from tests.unit.aicert.records.rows import converted

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.slow,
    # Warnings of pyarrow's own libraries while they load say nothing about rows.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def pa() -> Iterator[Any]:
    """Yield pyarrow, which is found after everything else that is installed here."""
    environment = training_env.ensure(ROOT)
    (packages,) = environment.glob("lib/python3.*/site-packages")
    sys.path.append(str(packages))
    import pyarrow
    import pyarrow.parquet

    yield pyarrow
    sys.path.remove(str(packages))


Write = Callable[..., bytes]


@pytest.fixture
def write(pa: Any, tmp_path: Path) -> Write:
    """Return `write(columns, **options)`, which returns the bytes of a file."""

    def write(columns: Any, **options: Any) -> bytes:
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pa.parquet.write_table(table, tmp_path / "written", **options)
        return (tmp_path / "written").read_bytes()

    return write


def rows(folder: Path, data: bytes, name: str = "a.parquet") -> list[Any]:
    (folder / name).write_bytes(data)
    return converted(folder, name)[1]


def every_type(pa: Any) -> Any:
    return pa.table(
        {
            "text": ["a", "é", None, "a"],
            "i": pa.array([1, None, -5, 127], pa.int8()),
            "u": pa.array([1, 2**32 - 1, 0, 7], pa.uint32()),
            "f": pa.array([0.5, 0.1, None, 1e10], pa.float32()),
            "h": pa.array([0.5, None, 1, 2], pa.float16()),
            "b": [True, None, False, True],
            "l": [[1, 2], [], None, [None]],
            "s": [{"x": "q", "y": [1.5]}, {"x": None, "y": []}, None, {"x": "r", "y": None}],
            "m": [[{"r": "u"}], [], None, [{"r": "a"}, None]],
            "z": pa.nulls(4),
            "d": pa.array(["k", "k", None, "v"]).dictionary_encode(),
            "fixed": pa.array([[1, 2], [3, 4], None, [5, 6]], pa.list_(pa.int8(), 2)),
            "large": pa.array(["1", "2", "3", "4"], pa.large_string()),
        }
    )


WRITTEN: dict[str, dict[str, Any]] = {
    "snappy": {},
    "zstd": {"compression": "zstd"},
    "gzip": {"compression": "gzip"},
    "brotli": {"compression": "brotli"},
    "lz4": {"compression": "lz4"},
    "plain": {"compression": None, "use_dictionary": False},
    "version 1": {"version": "1.0"},
    "pages of version 2": {"data_page_version": "2.0"},
    "many row groups": {"row_group_size": 1},
    "an index": {"write_page_index": True},
    "small pages": {"data_page_size": 1, "dictionary_pagesize_limit": 1},
    "no Arrow schema": {"store_schema": False},
}


@pytest.mark.parametrize("name", WRITTEN)
def test_however_it_is_written_the_rows_are_the_same(
    name: str, pa: Any, write: Write, tmp_path: Path
) -> None:
    table = every_type(pa)
    read_rows = rows(tmp_path, write(table, **WRITTEN[name]))
    assert repr(read_rows) == repr(table.to_pylist())
    assert read_rows[1]["f"] == struct.unpack("f", struct.pack("f", 0.1))[0]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_without_rows_adds_none(name: str, pa: Any, write: Write, tmp_path: Path) -> None:
    table = every_type(pa)
    (tmp_path / "a.parquet").write_bytes(write(table.slice(0, 0), **WRITTEN[name]))
    (tmp_path / "b.parquet").write_bytes(write(table))
    assert repr(converted(tmp_path, "a.parquet", "b.parquet")[1]) == repr(table.to_pylist())


def test_files_of_two_forms_are_one_set_of_rows(pa: Any, write: Write, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(write({"x": [1, 2], "t": ["a", None]}))
    (tmp_path / "b.csv").write_bytes(b"t,x\nc,0.5\n")
    assert converted(tmp_path, "a.parquet", "b.csv")[1] == [
        {"x": 1.0, "t": "a"},
        {"x": 2.0, "t": None},
        {"x": 0.5, "t": "c"},
    ]


def test_what_metadata_would_make_of_a_column_is_not_looked_at(
    pa: Any, write: Write, tmp_path: Path
) -> None:
    features = b'{"info":{"features":{"path":{"_type":"Image"}}}}'
    table = pa.table({"path": ["reference://x"]}).replace_schema_metadata({"huggingface": features})
    assert rows(tmp_path, write(table)) == [{"path": "reference://x"}]


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an image": (
        lambda pa: pa.array([{"bytes": b"x", "path": "y"}]),
        "column 'c' holds bytes, such as images or sounds",
    ),
    "bytes": (lambda pa: pa.array([b"\xff"]), "column 'c' holds bytes"),
    "times": (lambda pa: pa.array([1], pa.timestamp("ns")), "values of type 'timestamp"),
    "dates": (lambda pa: pa.array([1], pa.date32()), "values of type 'date32"),
    "decimals": (lambda pa: pa.array([1], pa.decimal128(3, 1)), "values of type 'decimal128"),
    "maps": (lambda pa: pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), "type .map<"),
    "large integers": (
        lambda pa: pa.array([1, 2, 2**63], pa.uint64()),
        "row 3: column 'c': .*9223372036854775808 not in range",
    ),
    "NaN": (lambda pa: pa.array([0.5, float("nan")]), "row 2: NaN and infinity are not numbers"),
    "not UTF-8": (
        lambda pa: pa.Array.from_buffers(
            pa.utf8(),
            3,
            [None, pa.py_buffer(struct.pack("<4i", 0, 1, 2, 3)), pa.py_buffer(b"a\xffb")],
        ),
        "row 2: column 'c': Invalid UTF8",
    ),
    "deep lists": (
        lambda pa: pa.array([[[[[[[[[[[[1]]]]]]]]]]]]),
        "column 'c' is nested deeper than 9 levels",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_rows_cannot_hold_is_refused(name: str, pa: Any, write: Write, tmp_path: Path) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(RowsRefused, match=f"^'a.parquet'.*{reason}"):
        rows(tmp_path, write({"c": make(pa)}))


def test_two_columns_of_one_name_are_refused(pa: Any, write: Write, tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["t", "t"])
    with pytest.raises(RowsRefused, match="there are two columns 't'"):
        rows(tmp_path, write(table))


def footer_start(data: bytes) -> int:
    return len(data) - 8 - int(struct.unpack("<I", data[-8:-4])[0])


def test_bytes_that_belong_to_no_column_are_refused(write: Write, tmp_path: Path) -> None:
    data = write({"t": ["a", "b"]})
    cut = footer_start(data)
    for wrong, reason in {
        data[:cut] + b"HIDDEN" + data[cut:]: "6 bytes from byte .* belong to no column",
        data + b"PAR1": "its footer is longer than the file",
        b"#" + data: "not Parquet, or there are bytes before or after it",
        data[:-1]: "not Parquet",
        b"PARE" + data[4:]: "it is encrypted",
        data[:-8] + b"\0" * 8 + data[-8:]: "",
    }.items():
        with pytest.raises(RowsRefused, match=reason):
            rows(tmp_path, wrong)
        (tmp_path / "out").rmdir()


def test_values_of_a_dictionary_that_no_row_shows_are_counted(
    pa: Any, write: Write, tmp_path: Path
) -> None:
    text = pa.DictionaryArray.from_arrays([0, 1, 0], ["a", "b", "UNUSED SECRET"])
    (tmp_path / "a.parquet").write_bytes(write({"t": text, "n": [1, 1, 2]}))
    read, read_rows = converted(tmp_path, "a.parquet")
    assert (read.unread_bytes, len(read_rows)) == (len("UNUSED SECRET"), 3)


@pytest.mark.parametrize("kind", ["int32", "uint32", "int64", "float32", "float64", "string"])
def test_used_dictionaries_have_nothing_unread(
    kind: str, pa: Any, write: Write, tmp_path: Path
) -> None:
    values = [None, *range(5)] * 3
    column = pa.array([None if n is None else str(n) for n in values]) if kind == "string" else None
    column = pa.array(values, getattr(pa, kind)()) if column is None else column
    nested = pa.array([[{"x": value}] for value in values])
    (tmp_path / "a.parquet").write_bytes(write({"c": column, "l": nested}, row_group_size=4))
    assert converted(tmp_path, "a.parquet")[0].unread_bytes == 0


def test_packed_files_are_unpacked(pa: Any, write: Write, tmp_path: Path) -> None:
    files = {"a.parquet.zst": write({"n": [1]}), "b.jsonl.zst": b'{"n":1}\n' * 9}
    for name, data in files.items():
        packed = pa.Codec("zstd").compress(data, asbytes=True)
        with pa.CompressedOutputStream(str(tmp_path / "stream"), "zstd") as stream:
            stream.write(data)
        streamed = (tmp_path / "stream").read_bytes()
        half = len(data) // 2
        halves = [
            pa.Codec("zstd").compress(part, asbytes=True) for part in (data[:half], data[half:])
        ]
        for number, form in enumerate((packed, streamed, b"".join(halves))):
            folder = tmp_path / f"{number}{name}"
            folder.mkdir()
            assert {str(row) for row in rows(folder, form, name)} == {"{'n': 1}"}


def test_damaged_zstd_is_refused(pa: Any, tmp_path: Path) -> None:
    packed = bytearray(pa.Codec("zstd").compress(b'{"n":1}\n' * 99, asbytes=True))
    # Damage the block's description of how its parts are laid out.
    packed[-4] ^= 0xFF
    with pytest.raises(RowsRefused, match=r"^'a.jsonl.zst'"):
        rows(tmp_path, bytes(packed), "a.jsonl.zst")


def test_hostile_files_end_in_one_typed_error(pa: Any, write: Write, tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays([0, 1, 0], ["a", "b", "UNUSED"])
    corpus = [
        write({"t": text, "m": [[{"r": "u"}], [], None]}, compression="zstd"),
        write({"t": ["a", "b"], "n": [1, 2]}, compression=None, write_page_index=True),
    ]
    chance = Random(14)  # noqa: S311 - the same inputs on every machine
    refused = 0
    for _ in range(400):
        try:
            rows(tmp_path, mutated(chance, corpus))
        except AicertError:
            refused += 1
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        (tmp_path / "out").rmdir()
    assert refused > 100
