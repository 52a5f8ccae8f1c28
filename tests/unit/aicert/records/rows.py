"""Rows from files, as the converter returns them."""

import io
import json
from pathlib import Path

from aicert.records import convert, outcome
from aicert.records.reader import check


def converted(
    folder: Path, *files: str, scratch: int = 1 << 30
) -> tuple[outcome.Outcome, list[object]]:
    """Convert `files` of `folder`; return the converter's outcome and the rows for the trainer."""
    out = folder / "out"
    out.mkdir()
    convert.convert(convert.Request(root=str(folder), files=files, scratch=scratch), out)
    read = outcome.read(out, files)
    assert read.in_place is not (out / convert.ROWS).exists()
    places = [folder / name for name in files] if read.in_place else [out / convert.ROWS]
    data = b"".join(place.read_bytes() for place in places)
    assert check(io.BytesIO(data), read.schema).rows == read.rows
    return read, [json.loads(line) for line in data.split(b"\n")[:-1]]


def rows_of(folder: Path, name: str, data: bytes) -> list[object]:
    """Return the rows of one file with these bytes."""
    (folder / name).write_bytes(data)
    return converted(folder, name)[1]
