"""`aicert records`: count the rows in a directory or file, in the terms of run reports.

Nothing is verified: the numbers are those of the files here, to be compared with a certificate's
(`aicert show`).
"""

import argparse
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli.terminal import add_format, help_formatter
from aicert.errors import ConfigError, ToolError
from aicert.files.bounded import why
from aicert.formats.paths import MAX_FILES, check_path
from aicert.frozen import dataclass
from aicert.records.convert import Selection, learn
from aicert.records.errors import RowsRefused
from aicert.records.reader import Checker, RowsFact, blocks
from aicert.records.select import DEFAULT, choose
from aicert.text import safe

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers

_RECORDS = """\
Say which rows a training reads from PATH: for each split, how many there are, and the size and
SHA-256 of their canonical form. A run report says the same about the rows that a run trained on.

  aicert records examples/alpaca.jsonl
  aicert records rows/ --data-files 'data/*.parquet' --format json
  aicert records rows.csv --canonical rows.jsonl

With --canonical the rows are also written in canonical form, which a machine uses without making a
copy.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The count of one split of a path. `files` is empty if the path is itself the only file."""

    name: str
    split: str
    fact: RowsFact
    unread_bytes: int
    in_place: bool
    files: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the facts as in a run report, and whether the files are canonical already."""
        return {
            "bytes": self.fact.bytes,
            "canonical": self.in_place,
            "digest": str(self.fact.digest),
            "files": list(self.files),
            "name": self.name,
            "rows": self.fact.rows,
            "split": self.split,
            "unreadBytes": self.unread_bytes,
        }


def add_commands(commands: "Subparsers") -> None:
    """Add this module's command to the parser of `aicert`."""
    parser = commands.add_parser(
        "records", help="print which rows are in files, as a run report does", description=_RECORDS,
        epilog="exit codes: 0 done, 2 rows are refused, 3 bad command line",
        formatter_class=help_formatter,
    )  # fmt: skip
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="+", help="a directory or a file with rows")
    add("--data-files", metavar="PATTERN", action="append", help="like the config's `data_files`")
    add("--split", metavar="NAME", help="only this split")
    add("--canonical", metavar="FILE", help="also write the rows to this new file")
    add_format(parser)
    parser.set_defaults(run=_records)


def _records(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    chosen = [
        (path, split, files)
        for path in map(Path, options.paths)
        for split, files in chosen_files(path, options.data_files).items()
        if options.split in (None, split)
    ]
    if not chosen:
        raise ConfigError(f"no split is called {options.split[:80]!a}")
    if options.canonical is None:
        counted = [_count(path, split, files) for path, split, files in chosen]
    elif len(chosen) == 1:
        counted = [_written(*chosen[0], Path(options.canonical))]
    else:
        splits = ", ".join(f"{split} of {path}" for path, split, _ in chosen)
        raise ConfigError(f"--canonical takes one split, and there are {splits}")
    if options.format == "json":
        say(json.dumps([item.to_json() for item in counted], indent=2) + "\n")
    else:
        say("".join(map(_text, counted)))
    return 0


def _text(counted: Counted) -> str:
    fact = counted.fact
    unread = f", {counted.unread_bytes} bytes in no row" if counted.unread_bytes else ""
    form = ", canonical as it is" if counted.in_place else ""
    head = f"{counted.name} {counted.split}: {fact.rows} rows, {fact.bytes} bytes{unread}{form}"
    lines = [f"rows      {safe(head)}", f"          {fact.digest}"]
    return "\n".join([*lines, *(f"          {safe(path)}" for path in counted.files)]) + "\n"


def chosen_files(path: Path, data_files: list[str] | None = None) -> dict[str, list[str]]:
    """Return the files of each split of a path, in the order of their rows.

    A path that is a file stands for itself.
    """
    if path.is_dir():
        return choose(list_files(path), data_files, where=path.name)
    if data_files is not None:
        raise ConfigError("--data-files is for directories")
    return {DEFAULT: [""]}


def list_files(root: Path) -> Iterator[str]:
    """Yield every file below `root`; refuse links and whatever else is not a regular file."""

    def refuse(error: OSError) -> None:
        raise ToolError(f"cannot read {error.filename!a}: {why(error)}")

    count = 0
    for folder, folders, names in os.walk(root, onerror=refuse):
        for name in (*folders, *names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise RowsRefused(relative, "neither a file nor a directory")
            if stat.S_ISREG(mode):
                check_path(relative)
                count += 1
                if count > MAX_FILES:
                    raise RowsRefused(".", f"there are more than {MAX_FILES} files")
                yield relative


def _count(path: Path, split: str, files: list[str]) -> Counted:
    return _counted(path, split, files, lambda _: None)


def _written(path: Path, split: str, files: list[str], canonical: Path) -> Counted:
    try:
        with canonical.open("xb") as stream:
            try:
                return _counted(path, split, files, stream.write)
            except BaseException:
                canonical.unlink()
                raise
    except OSError as error:
        raise ToolError(f"cannot write {os.fspath(canonical)!a}: {why(error)}") from None


def _counted(path: Path, split: str, files: list[str], also: Callable[[bytes], object]) -> Counted:
    """Convert the rows to canonical form and count them; also pass each block of rows to `also`."""
    selection = learned(path, files)
    checker = Checker(selection.schema)
    for block in canonical_blocks(selection):
        checker.feed(block)
        also(block)
    return Counted(
        name=path.resolve().name,
        split=split,
        fact=checker.fact(),
        unread_bytes=sum(source.unread_bytes for source in selection.sources),
        in_place=selection.in_place,
        files=() if files == [""] else tuple(files),
    )


def learned(path: Path, files: list[str]) -> Selection:
    """Read the chosen files of a path (see `chosen_files`) once, and return them as a selection."""
    return learn(path.parent, [path.name]) if files == [""] else learn(path, files)


def canonical_blocks(selection: Selection) -> Iterator[bytes]:
    """Yield the canonical rows of a selection, in blocks that the strict reader has not checked
    yet.
    """
    for source in selection.sources:
        if selection.in_place:
            with source.path.open("rb") as stream:
                yield from blocks(stream)
        else:
            yield from source.rows(selection.schema)
