"""Make the trainer read rows from canonical files, by their schema, and in no other way.

`install` leaves only one builder in `datasets`. It reads JSON Lines that the runner has checked, at
FOLDER/data/SPLIT-*.jsonl, with the column types of FOLDER/schema.json. Nothing is inferred: a text
that looks like a date stays text, an integer stays an integer, a column without values is kept, and
a field that is not in the schema ends the training. Memory holds one block of a file. Caches are
off. docs/spec/records.md describes the format.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.json as pyarrow_json
from datasets import packaged_modules
from datasets.builder import Key

SCHEMA = "schema.json"
# As many bytes as `datasets` reads at once, so that tables have the same number of rows as with its
# own reader.
BLOCK_BYTES = 10 << 20

_SCALARS = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "null": pa.null(),
}


class UnreadableRows(Exception):  # noqa: N818 - what they are, and the reason is the message
    """Raised if the files are not laid out as the runner lays them out."""


def arrow_schema(document: Any) -> pa.Schema:
    """Convert a schema document to an Arrow schema."""
    return pa.schema([pa.field(name, _arrow_type(kind)) for name, kind in document["columns"]])


def _arrow_type(kind: Any) -> pa.DataType:
    if isinstance(kind, str):
        return _SCALARS[kind]
    if "list" in kind:
        return pa.list_(_arrow_type(kind["list"]))
    return pa.struct([pa.field(name, _arrow_type(each)) for name, each in kind["struct"]])


def read_tables(path: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of one file, a block at a time."""
    options = pyarrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    # When it streams, `datasets` replaces `open` in a builder's module by one that takes URLs.
    with io.FileIO(path) as raw, io.BufferedReader(raw) as file:
        while block := file.read(BLOCK_BYTES):
            block += file.readline()
            # Parse this as one block of pyarrow's: a row across two blocks would be an error.
            size = pyarrow_json.ReadOptions(block_size=len(block) + 1, use_threads=False)
            yield pyarrow_json.read_json(pa.BufferReader(block), size, options)


class Rows(datasets.ArrowBasedBuilder):  # type: ignore[misc]  # datasets is not there to mypy
    """The only builder of data sets that a certified run has."""

    def _info(self) -> Any:
        return datasets.DatasetInfo()

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        files = {
            str(split): [str(path) for path in paths]
            for split, paths in self.config.data_files.items()
        }
        folders = {Path(path).parents[1] for paths in files.values() for path in paths}
        if len(folders) != 1:
            raise UnreadableRows(f"rows must be in one folder, not in {len(folders)}")
        schema = arrow_schema(json.loads((folders.pop() / SCHEMA).read_bytes()))
        self.info.features = datasets.Features.from_arrow_schema(schema)
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"files": paths})
            for split, paths in files.items()
        ]

    def _generate_shards(self, files: list[str]) -> Iterator[str]:
        yield from files

    def _generate_tables(self, files: list[str]) -> Iterator[tuple[Any, pa.Table]]:
        schema = self.info.features.arrow_schema
        for number, path in enumerate(files):
            for index, table in enumerate(read_tables(path, schema)):
                yield Key(number, index), table


def install() -> None:
    """Remove everything from `datasets` that reads files of rows, except the builder above."""
    builders = packaged_modules._PACKAGED_DATASETS_MODULES  # noqa: SLF001 - it has no other door
    builders.clear()
    # "aicert" becomes part of file names in the cache, which is new in every run.
    builders["json"] = (__name__, "aicert")
    datasets.disable_caching()
