"""CSV, text and packed files."""

import gzip
import shutil
import zlib
from pathlib import Path

import pytest

from aicert.records.errors import RowsRefused
from aicert.records.forms import FileForm, form_of
from tests.unit.aicert.records.rows import converted, rows_of

CSV: dict[str, tuple[bytes, list[object]]] = {
    "numbers": (
        b"i,f,m,big\n1,0.5,1,9223372036854775807\n-2,1e-05,2.5,\n",
        [
            {"i": 1, "f": 0.5, "m": 1.0, "big": 2**63 - 1},
            {"i": -2, "f": 1e-05, "m": 2.5, "big": None},
        ],
    ),
    "booleans": (b"b,c\nTrue,true\nFalse,x\n", [{"b": True, "c": "true"}, {"b": False, "c": "x"}]),
    "nothing of a text is lost": (
        b"a,b,c,d,e\n01,1.50,+1,2020-01-01,9223372036854775808\n2,2,2,2,2\n",
        [
            {"a": "01", "b": "1.50", "c": "+1", "d": "2020-01-01", "e": "9223372036854775808"},
            dict.fromkeys("abcde", "2"),
        ],
    ),
    "what no float holds is text": (
        b"a\n9007199254740993\n0.5\n",
        [{"a": "9007199254740993"}, {"a": "0.5"}],
    ),
    "words are words": (b"a\nNA\nnull\nnan\n", [{"a": "NA"}, {"a": "null"}, {"a": "nan"}]),
    "nothing is null": (b'a,b\n,\n"",x\n', [{"a": None, "b": None}, {"a": None, "b": "x"}]),
    "quotes": (b'a,b\n"x\ny","p""q"\n', [{"a": "x\ny", "b": 'p"q'}]),
    "CRLF": (b"a,b\r\nx,y\r\n", [{"a": "x", "b": "y"}]),
    "a mark, and blank lines": (b"\xef\xbb\xbfa,b\n\nx,y\n\n", [{"a": "x", "b": "y"}]),
    "spaces stay": (b"a,b\n x , y\n", [{"a": " x ", "b": " y"}]),
    "no line feed at the end": (b"a\nx", [{"a": "x"}]),
}
CSV_REFUSED: dict[str, tuple[bytes, str]] = {
    "few fields": (b"a,b\nx,y\nx\n", "row 2: it has 1 fields, but there are 2 columns"),
    "many fields": (b"a,b\nx,y,z\n", "row 1: it has 3 fields"),
    "one name twice": (b"a,a\nx,y\n", "there are two columns 'a'"),
    "no name": (b",a\n0,x\n", "the name of column ''"),
    "no names": (b"", "there is no line with the column names"),
    "no end": (b'a\n"x\n', "row 1: not CSV"),
    "text behind quotes": (b'a\nx\n"x"y\n', "row 2: not CSV"),
    "a carriage return": (b"a\nx\ry\n", "row 1: not CSV"),
    "not UTF-8": (b"a\n\xff\n", "not UTF-8"),
    "a byte 0": (b"a\nb\0\n", "it holds a zero byte"),
    "no rows": (b"a,b\n", "there are no rows"),
    "many names": (b",".join(b"%d" % n for n in range(5000)) + b"\n", "more than 4096 columns"),
}
TEXT: dict[str, tuple[bytes, list[str]]] = {
    "lines": (b"a\nb", ["a", "b"]),
    "CRLF and empty lines": (b"a\r\n\r\n\nb\r\n", ["a", "", "", "b"]),
    "no other character ends a line": (
        "a\u2028b\x0bc\x0cd\x85e\x1c\n".encode(),
        ["a\u2028b\x0bc\x0cd\x85e\x1c"],
    ),
    "a mark": (b"\xef\xbb\xbfa\n", ["a"]),
    "a mark inside is a character": (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
    "JSON is text": (b'{"a":1}\n', ['{"a":1}']),
}


@pytest.mark.parametrize("name", CSV)
def test_csv(name: str, tmp_path: Path) -> None:
    data, rows = CSV[name]
    assert repr(rows_of(tmp_path, "a.csv", data)) == repr(rows)


@pytest.mark.parametrize("name", CSV_REFUSED)
def test_csv_is_refused(name: str, tmp_path: Path) -> None:
    data, reason = CSV_REFUSED[name]
    with pytest.raises(RowsRefused, match=f"^'a.csv'.*{reason}"):
        rows_of(tmp_path, "a.csv", data)


@pytest.mark.parametrize("name", TEXT)
def test_text(name: str, tmp_path: Path) -> None:
    data, lines = TEXT[name]
    assert rows_of(tmp_path, "a.txt", data) == [{"text": line} for line in lines]


def test_text_without_lines_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(RowsRefused, match="there are no rows"):
        rows_of(tmp_path, "a.txt", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a\nb\rc\n", "row 2: there is a carriage return"),
        (b"a\nb\n\xff\n", "row 3: not UTF-8"),
        (b"a\nb\0\n", "row 2: it holds a zero byte"),
        # The start of a tar archive in the format that has no magic.
        (b"rows.txt".ljust(100, b"\0") + b"0000777\0" * 3, "row 1: it holds a zero byte"),
    ],
)
def test_text_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(RowsRefused, match=reason):
        rows_of(tmp_path, "a.txt", data)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.json", "a.parquet", "a.txt.gz", "a.csv.zst"])
def test_a_pointer_of_git_lfs_is_no_rows(name: str, tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    with pytest.raises(RowsRefused, match=f"^'{name}': a git LFS pointer") as caught:
        rows_of(tmp_path, name, pointer)
    assert caught.value.hint == "git lfs pull"


def test_files_without_types_agree_on_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x,y\n1,true\n")
    (tmp_path / "b.csv").write_bytes(b"y,x,z\nno,01,1\n")
    (tmp_path / "c.csv").write_bytes(b"z,x\n0.5,\n")
    assert converted(tmp_path, "a.csv", "b.csv", "c.csv")[1] == [
        {"x": "1", "y": "true", "z": None},
        {"x": "01", "y": "no", "z": 1.0},
        {"x": None, "y": None, "z": 0.5},
    ]


def test_files_with_types_do_not_become_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"x":1}\n')
    (tmp_path / "b.csv").write_bytes(b"x\nno\n")
    with pytest.raises(RowsRefused, match="column 'x' has both ints and strings"):
        converted(tmp_path, "a.jsonl", "b.csv")


ROW = b'{"a":1}\n'


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.JSON.GZ", "b/a.json.gz"])
def test_gzip(name: str, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    assert rows_of(tmp_path, name, gzip.compress(ROW) * 2) == [{"a": 1}] * 2


def commented() -> bytes:
    head = bytearray(gzip.compress(ROW)[:10])
    head[3] = 0x10
    return bytes(head) + b"a comment\0" + gzip.compress(ROW)[10:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(ROW) + b"more", "not gzip, or there are bytes after its end"),
        (gzip.compress(ROW) + b"\0", "not gzip, or there are bytes after its end"),
        (gzip.compress(ROW)[:-1], "ends too early"),
        (gzip.compress(ROW)[:12], "ends too early"),
        (gzip.compress(ROW)[:-8] + bytes(8), "not gzip: .*incorrect data check"),
        (b"\x1f\x8b\x08", "not gzip, or there are bytes after its end"),
        (ROW, "not gzip"),
        (b"", "not gzip: the file is empty"),
        (commented(), "header has a comment"),
        (zlib.compress(ROW), "not gzip"),
    ],
)
def test_what_gzip_would_pass_over_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(RowsRefused, match=f"^'a.jsonl.gz'.*{reason}"):
        rows_of(tmp_path, "a.jsonl.gz", data)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicert.records.packing.ALWAYS_ALLOWED", 1000)
    with pytest.raises(RowsRefused, match="unpacks to more than 1000 times its size"):
        rows_of(tmp_path, "a.txt.gz", gzip.compress(gzip_bomb()))


def gzip_bomb() -> bytes:
    # 1032 to 1 is the highest ratio that deflate can reach.
    return b"\n" * (1 << 23)


def frame(descriptor: int, *parts: bytes) -> bytes:
    return b"\x28\xb5\x2f\xfd" + bytes((descriptor,)) + b"".join(parts)


RAW = (1 | len(ROW) << 3).to_bytes(3, "little") + ROW
ZSTD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not zstd: the file is empty"),
    "no zstd": (ROW, "not zstd, or there are bytes"),
    "bytes behind": (frame(0x20, b"\x08", RAW) + b"x", "not zstd, or there are bytes"),
    "a skippable frame": (
        frame(0x20, b"\x08", RAW) + b"\x50\x2a\x4d\x18\4\0\0\0HIDE",
        "not zstd, or there are bytes or skippable frames",
    ),
    "a dictionary": (frame(0x21, b"\x08", RAW), "needs a dictionary"),
    "a reserved bit": (frame(0x28, b"\x08", RAW), "reserved bit"),
    "a large window": (frame(0, b"\xf0", RAW), "window is larger"),
    "an early end": (frame(0x20, b"\x08", RAW[:-1]), "ends too early"),
    "no checksum": (frame(0x24, b"\x08", RAW), "ends too early"),
    "no kind": (frame(0x20, b"\x08", b"\x07\0\0"), "a block has no valid kind"),
    "a long block": (frame(0x20, b"\x08", b"\xf9\xff\xff"), "is too long"),
}


@pytest.mark.parametrize("name", ZSTD)
def test_what_zstd_would_pass_over_is_refused(name: str, tmp_path: Path) -> None:
    data, reason = ZSTD[name]
    with pytest.raises(RowsRefused, match=f"^'a.jsonl.zst'.*{reason}"):
        rows_of(tmp_path, "a.jsonl.zst", data)


def test_the_list_of_forms_is_closed() -> None:
    assert form_of("a.parquet") == FileForm("parquet", None)
    assert form_of("x/a.csv.zst") == FileForm("csv", "zstd")
    for name in (
        "a.tsv",
        "a.tar.gz",
        "a.zip",
        "a.arrow",
        "a.gz",
        ".json",
        "x/.csv",
        "json",
        "a.jsonl.gz.gz",
    ):
        assert form_of(name) is None, name


def test_a_long_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicert.records.grammar.MAX_PARTS", 200_000)
    for module in ("grammar", "jsonl", "jsonsource"):
        monkeypatch.setattr(f"aicert.records.{module}.MAX_LINE", 300_000)
    data = b'{"a":"%b"}\n' % (b"x" * 300_001)
    for name, content in {
        "a.jsonl": data + ROW,
        "b.jsonl": data[:-1],
        "c.json": b"[" + data + b"]",
        "e.json": b'[{"a":"' + b"x" * 900_000,
        "f.json": b'["%b"]' % (b"x" * 900_000),
        "d.jsonl": b" " * 600_000 + ROW,
    }.items():
        with pytest.raises(RowsRefused, match=r"longer than|more than 300000 bytes of space"):
            rows_of(tmp_path, name, content)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_a_link_or_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROW)
    (tmp_path / "b.jsonl").symlink_to("a.jsonl")
    (tmp_path / "c.jsonl").mkdir()
    (tmp_path / "out").mkdir()
    for name, reason in (("b", "cannot be read"), ("c", "no file"), ("d", "cannot be read")):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        with pytest.raises(RowsRefused, match=reason):
            converted(tmp_path, f"{name}.jsonl")
    with pytest.raises(RowsRefused, match="rows are not read from files of this kind"):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        converted(tmp_path, "a.arrow")


def test_blocks_of_any_size_make_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "\ufeff" + "".join(
        f'[{{"a": "é{n}"}},' if not n else f'{{"a": "é{n}"}},' for n in range(50)
    )
    expected = [{"a": f"é{n}"} for n in range(50)]
    for size in (1, 2, 3, 7):
        monkeypatch.setattr("aicert.records.reader.BLOCK", size)
        assert rows_of(tmp_path, "a.json", f"{data[:-1]}]".encode()) == expected
        assert (tmp_path / "out" / "rows.jsonl").exists()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_many_values_in_a_row_of_an_array_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicert.records.jsonrows.MAX_PARTS", 100)
    assert rows_of(tmp_path, "a.json", b'[{"a":"' + b"x" * 300 + b'"}]') == [{"a": "x" * 300}]
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    with pytest.raises(RowsRefused, match="row 1: longer than 100 commas and brackets"):
        rows_of(tmp_path, "a.json", b'[{"a":[' + b"1," * 300 + b"1]}]")
