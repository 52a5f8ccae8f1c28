"""Convert files to canonical rows, as a program: `python -m aicert.records.convert OUT < request`.

It runs where hostile bytes can do no harm: no network, no TPM, and only OUT to write to. The
request is JSON: `{"files": [PATH, …], "root": DIR, "scratch": BYTES}`; the files are below DIR, in
the order of their rows, and the copy may take BYTES bytes. The program writes to OUT, which must be
an empty directory:

- `facts.json`: `outcome.read` reads it, and raises the refusal if it holds one;
- `schema.json`: the columns;
- `rows.jsonl`: the canonical rows, unless the files are canonical already (`inPlace`).

It exits with 0, or with 2 if it refused rows. Its parent believes nothing that it writes, and
passes every byte to the strict reader (`reader`).
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from aicert.errors import AicertError
from aicert.formats.strict_json import Fields, loads, string
from aicert.frozen import dataclass
from aicert.records.errors import RowRefused, RowsRefused
from aicert.records.infer import Columns
from aicert.records.schema import Schema
from aicert.records.source import Source

# Room for a hundred thousand paths of about a hundred bytes each.
MAX_REQUEST = 1 << 24
MAX_FILES = 50_000
# Counting stops at this many times what scratch can hold, because a small file may unpack to very
# many rows.
COUNTED = 16
ROWS, SCHEMA, FACTS = "rows.jsonl", "schema.json", "facts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to convert `files` below `root` into at most `scratch` bytes."""

    root: str
    files: tuple[str, ...]
    scratch: int

    def emit(self) -> bytes:
        """Return the request as the JSON that the converter reads from its standard input."""
        return json.dumps(
            {"files": list(self.files), "root": self.root, "scratch": self.scratch}
        ).encode()

    @staticmethod
    def parse(data: bytes) -> "Request":
        """Read a request that `emit` wrote."""
        fields = Fields(loads(data, what="request", max_bytes=MAX_REQUEST), "request")
        request = Request(
            root=fields.text("root"),
            files=fields.items("files", string, max_items=MAX_FILES),
            scratch=fields.integer("scratch"),
        )
        fields.done()
        return request


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Source files and the columns that they share.

    `in_place`: the files are canonical already.
    """

    sources: tuple[Source, ...]
    schema: Schema
    in_place: bool

    def facts(self) -> dict[str, object]:
        """Return the content of `facts.json`."""
        files = [
            {
                "form": source.form.form,
                "path": source.name,
                "rows": source.row_count,
                "unreadBytes": source.unread_bytes,
            }
            for source in self.sources
        ]
        return {
            "files": files,
            "inPlace": self.in_place,
            "rows": sum(source.row_count for source in self.sources),
            "unreadBytes": sum(source.unread_bytes for source in self.sources),
            "version": 1,
        }


def learn(root: Path, files: Sequence[str]) -> Selection:
    """Read all files once, to learn their columns and whether they are canonical."""
    sources = tuple(Source(root, name) for name in files)
    columns = Columns()
    for source in sources:
        source.learn(columns)
    if not any(source.row_count for source in sources):
        raise RowsRefused(files[0] if files else ".", "there are no rows")
    try:
        schema = columns.schema()
    except RowRefused as error:
        raise error.at(files[0], None) from None
    in_place = all(source.is_canonical(columns, schema) for source in sources)
    return Selection(sources=sources, schema=schema, in_place=in_place)


def write(selection: Selection, stream: BinaryIO, scratch: int) -> int:
    """Write the canonical rows, and return how many bytes they take.

    If they need more than `scratch` bytes, this reads on so that the error can say by how much.
    """
    size = 0
    for source in selection.sources:
        for block in source.rows(selection.schema):
            size += len(block)
            if size <= scratch:
                stream.write(block)
            elif size > COUNTED * (scratch + (1 << 30)):
                raise _too_large(selection, size, scratch, "more than ")
    if size > scratch:
        raise _too_large(selection, size, scratch, "")
    return size


def _too_large(selection: Selection, size: int, scratch: int, least: str) -> RowsRefused:
    return RowsRefused(
        selection.sources[0].name,
        f"the rows in canonical form take {least}{size} bytes, and scratch is short by "
        f"{least}{size - scratch} bytes",
        hint="give the input in canonical form (docs/spec/records.md), or more memory",
    )


def convert(request: Request, out: Path) -> None:
    """Carry out a request as the module's docstring says. RowsRefused if rows are refused."""
    selection = learn(Path(request.root), request.files)
    (out / SCHEMA).write_bytes(selection.schema.emit())
    if not selection.in_place:
        with (out / ROWS).open("xb") as stream:
            write(selection, stream, request.scratch)
    (out / FACTS).write_bytes(json.dumps(selection.facts(), sort_keys=True).encode())


def main(arguments: Sequence[str]) -> int:
    """Run the converter, and return its exit code."""
    (out,) = map(Path, arguments)
    # Temporary files go to the only directory that can be written to.
    tempfile.tempdir = str(out)
    try:
        convert(Request.parse(sys.stdin.buffer.read(MAX_REQUEST + 1)), out)
    except AicertError as error:
        refused = {
            "file": getattr(error, "file", "."),
            "hint": error.hint,
            "reason": getattr(error, "reason", error.message),
            "row": getattr(error, "row", None),
        }
        (out / FACTS).write_bytes(json.dumps({"refused": refused}, sort_keys=True).encode())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
