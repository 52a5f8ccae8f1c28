"""Hostile rows: archives, bombs, caches, scripts and names that a row loader would follow."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.adversarial.inputs.table import Row, one, write

ALPACA = b'{"instruction":"a","input":"","output":"b"}\n'
TOKENS = (
    b'{"instruction":"a","input":"","output":"b",'
    b'"input_ids":[1,2,3],"attention_mask":[1,1,1],"labels":[1,2,3]}\n'
)
# This script runs in the training environment after a row is laid out, and is then removed.
SCRIPT = "make.py"
PREAMBLE = """
import json
from pathlib import Path
import pyarrow as pa
from pyarrow import parquet
path = Path("train.parquet")
plain = pa.table({"instruction": ["a"], "input": [""], "output": ["b"]})
def write(table):
    parquet.write_table(table, path)
"""
# A row's URL of such a file system once rendered a template, that is, ran its code.
URL = "reference://x::data:{{cycler.__init__.__globals__.os.system('id')}}"
IMAGE_HEADER = (
    b"---\ndataset_info:\n  features:\n  - name: instruction\n    dtype: image\n---\n"
    b"configs: [{config_name: default, data_files: /proc/partitions}]\n"
)


def tar(form: int, *, link: str | None = None, mode: str = "w") -> bytes:
    """Return an archive of rows, or of a link in their place."""
    buffer = io.BytesIO()
    # Modes like `w:gz` name a compression; mypy knows each literal alone.
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        entry = tarfile.TarInfo("rows.txt")
        if link is None:
            entry.size = len(ALPACA)
            archive.addfile(entry, io.BytesIO(ALPACA))
        else:
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
    return buffer.getvalue()


def v7(link: str) -> bytes:
    """Return a tar in the format of 1979, without the magic by which archives are recognised."""
    data = bytearray(tar(tarfile.USTAR_FORMAT, link=link))
    data[257:512] = bytes(255)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def zipped(member: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, ALPACA)
    return buffer.getvalue()


def bomb() -> bytes:
    """Return one row of 64 MiB, compressed to 64 KiB."""
    packer = zlib.compressobj(9, wbits=31)
    blocks = [b'{"instruction":"', *[b"a" * (1 << 20)] * 64, b'"}']
    return b"".join(map(packer.compress, blocks)) + packer.flush()


def frame(size: int, *, skippable: bytes = b"") -> bytes:
    """Return a zstd file that repeats one byte for `size` bytes (RFC 8878, 3.1.1).

    With `skippable`, a skippable frame comes first.
    """
    blocks = b""
    while size:
        length = min(size, 1 << 17)
        size -= length
        blocks += (length << 3 | 1 << 1 | (not size)).to_bytes(3, "little") + b"a"
    before = b"\x50\x2a\x4d\x18" + len(skippable).to_bytes(4, "little") + skippable
    return (before if skippable else b"") + b"\x28\xb5\x2f\xfd\x00\x58" + blocks


def parquet(script: str) -> Callable[[Path], None]:
    """Write a file with pyarrow, in a process that has it: see `SCRIPT`."""
    return write({SCRIPT: (PREAMBLE + script).encode()})


def dataset_on_disk(folder: Path) -> None:
    """Lay out what `save_to_disk` writes, with a cache of other rows beside it."""
    write(
        {
            "data-00000-of-00001.arrow": b"ARROW1\0\0",
            "cache-0123456789abcdef.arrow": b"ARROW1\0\0",
            "state.json": json.dumps(
                {"_data_files": [{"filename": "../../etc/passwd"}], "_fingerprint": "0"}
            ).encode(),
            "dataset_info.json": b"{}",
        }
    )(folder)


def linked(folder: Path) -> None:
    write({"train.jsonl": ALPACA})(folder)
    (folder / "more.jsonl").symlink_to("/proc/partitions")


IMAGE = f"""
rows = [{{"bytes": None, "path": {URL!r}}}]
kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
features = {{"info": {{"features": {{"instruction": {{"_type": "Image"}}}}}}}}
table = pa.table({{"instruction": pa.array(rows, kind)}})
write(table.replace_schema_metadata({{"huggingface": json.dumps(features)}}))
"""
BEHIND = "write(plain); path.write_bytes(path.read_bytes() + b'x' * 100)"
BEFORE = "write(plain); data = path.read_bytes(); path.write_bytes(data[:4] + b'x' * 8 + data[4:])"
TIMES = "write(pa.table({'instruction': pa.array([1], pa.timestamp('s'))}))"
NESTED = """
kind = pa.map_(pa.string(), pa.string())
write(pa.table({"instruction": pa.array([[("a", "b")]], kind)}))
"""

ROWS = (
    Row(
        name="an image by the library's metadata",
        loader="parquet",
        lay_out=parquet(IMAGE),
        words=("hostile", "instruction", "bytes, such as images or sounds"),
    ),
    Row(
        name="bytes behind the footer",
        loader="parquet",
        lay_out=parquet(BEHIND),
        words=("hostile",),
    ),
    Row(
        name="bytes before the first page",
        loader="parquet",
        lay_out=parquet(BEFORE),
        words=("hostile",),
    ),
    Row(
        name="a column of times",
        loader="parquet",
        lay_out=parquet(TIMES),
        words=("hostile", "instruction"),
    ),
    Row(
        name="a column of maps",
        loader="parquet",
        lay_out=parquet(NESTED),
        words=("hostile", "instruction"),
    ),
    Row(
        name="an archive called parquet",
        loader="parquet",
        lay_out=write({"train.parquet": zipped("x::reference::/x.jsonl")}),
        words=("hostile/train.parquet",),
    ),
    Row(
        name="a key twice",
        loader="jsonl",
        lay_out=write({"train.jsonl": ALPACA + b'{"instruction":"a","instruction":"b"}\n'}),
        words=("hostile/train.jsonl", "row 2"),
    ),
    Row(
        name="more behind a row",
        loader="jsonl",
        lay_out=write({"train.jsonl": ALPACA[:-1] + b'{"instruction":"b"}\n'}),
        words=("hostile/train.jsonl", "row 1"),
    ),
    Row(
        name="a tar of 1979 with a link, called jsonl",
        loader="jsonl",
        lay_out=write({"train.jsonl": v7("/proc/partitions")}),
        words=("hostile/train.jsonl",),
    ),
    Row(
        name="a header that declares an image, and no rows",
        loader="jsonl",
        lay_out=write({"README.md": IMAGE_HEADER, "train.py": b"import os\n"}),
        words=("hostile",),
    ),
    Row(
        name="a field too many",
        loader="csv",
        lay_out=write({"train.csv": b"instruction,output\na,b\na,b,c\n"}),
        words=("hostile/train.csv", "row 2"),
    ),
    Row(
        name="a column without a name",
        loader="csv",
        lay_out=write({"train.csv": b"instruction,\na,b\n"}),
        words=("hostile/train.csv",),
    ),
    Row(
        name="a carriage return in a line",
        loader="text",
        lay_out=write({"train.txt": b"shown\rhidden\n"}),
        words=("hostile/train.txt", "row 1"),
    ),
    Row(
        name="bytes that are no UTF-8",
        loader="text",
        lay_out=write({"train.txt": b"a\n\xff\n"}),
        words=("hostile/train.txt",),
    ),
    Row(
        name="a bomb",
        loader="gzip",
        lay_out=write({"train.jsonl.gz": bomb()}),
        words=("hostile/train.jsonl.gz", "longer than"),
    ),
    Row(
        name="an archive behind the rows",
        loader="gzip",
        lay_out=write({"train.jsonl.gz": gzip.compress(ALPACA) + zipped("x::reference::/x")}),
        words=("hostile/train.jsonl.gz", "not gzip, or there are bytes after its end"),
    ),
    Row(
        name="a packed archive with a link, called jsonl",
        loader="gzip",
        lay_out=write({"train.jsonl.gz": tar(tarfile.GNU_FORMAT, link="/x", mode="w:gz")}),
        words=("hostile/train.jsonl.gz",),
    ),
    Row(
        name="a bomb",
        loader="zstd",
        lay_out=write({"train.jsonl.zst": frame(1 << 28)}),
        words=("hostile/train.jsonl.zst",),
    ),
    Row(
        name="a frame that decoders skip",
        loader="zstd",
        lay_out=write({"train.jsonl.zst": frame(10, skippable=b"hidden")}),
        words=("hostile/train.jsonl.zst", "skippable"),
    ),
    Row(
        name="a member that is a URL",
        loader="zip",
        lay_out=write({"train.zip": zipped("x::reference::/x.jsonl")}),
        words=("hostile",),
    ),
    Row(
        name="a member that is a URL, as one file",
        loader="zip",
        lay_out=one(zipped("x::reference::/x.jsonl")),
        words=("hostile",),
    ),
    Row(
        name="a tar with a link, as one file",
        loader="tar",
        lay_out=one(v7("/proc/partitions")),
        words=("hostile",),
    ),
    Row(
        name="a tgz",
        loader="tar",
        lay_out=write({"train.tgz": tar(tarfile.GNU_FORMAT, mode="w:gz")}),
        words=("hostile",),
    ),
    Row(
        name="a tar with a link",
        loader="tar",
        lay_out=write({"train.tar": tar(tarfile.GNU_FORMAT, link="/proc/partitions")}),
        words=("hostile",),
    ),
    Row(
        name="a saved data set with a cache",
        loader="arrow",
        lay_out=dataset_on_disk,
        words=("hostile",),
    ),
    Row(
        name="a script",
        loader="script",
        lay_out=write({"hostile.py": b"import os\n", "dataset_infos.json": b"{}"}),
        words=("hostile",),
    ),
    Row(
        name="a link among the rows",
        loader="links",
        lay_out=linked,
        words=("more.jsonl",),
    ),
    Row(
        name="tokens that say something else than the text beside",
        loader="jsonl",
        lay_out=write({"train.jsonl": TOKENS}),
        words=("config: datasets[0].type", "input_ids", "trains on whatever the type"),
    ),
    Row(
        name="tokens that are trained on as they are, beside a text",
        loader="jsonl",
        lay_out=write({"train.jsonl": TOKENS.replace(b'"attention_mask":[1,1,1],', b"")}),
        config="skip_prepare_dataset: true\n",
        words=("config: datasets[0].type", "input_ids", "trains on whatever the type"),
    ),
    Row(
        name="files by a URL",
        loader="config",
        lay_out=write({"train.jsonl": ALPACA}),
        config="test_datasets: [{path: 'input:rows', data_files: 'zip://*::/x', type: alpaca}]\n",
        words=("config: test_datasets[0].data_files", "zip://"),
    ),
)
