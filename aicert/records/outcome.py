"""Read the files that a converter wrote, as untrusted bytes."""

from pathlib import Path

from aicert.errors import EvidenceError
from aicert.files.bounded import read_bounded
from aicert.formats.paths import MAX_PATH_BYTES
from aicert.formats.strict_json import Fields, loads
from aicert.frozen import dataclass
from aicert.records.convert import FACTS, MAX_FILES, SCHEMA
from aicert.records.errors import RowsRefused
from aicert.records.schema import MAX_BYTES, Schema

MAX_FACTS = 1 << 24
# How many characters of a converter's reason or hint are shown.
MAX_REASON = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """The number of rows of one source file, and of its bytes that are in no row."""

    path: str
    form: str
    rows: int
    unread_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The report of a converter; the strict reader must then count exactly `rows` rows.

    `in_place`: the files are the canonical rows already, and there is no copy.
    """

    schema: Schema
    in_place: bool
    rows: int
    unread_bytes: int
    files: tuple[FileOutcome, ...]


def read(out: Path, files: tuple[str, ...]) -> Outcome:
    """Read what the converter of `files` wrote to `out`.

    Raises RowsRefused if it refused them, EvidenceError if its files do not fit together.
    """
    facts = read_bounded(out / FACTS, MAX_FACTS, "facts of the row converter")
    fields = Fields(loads(facts, what="facts of the row converter", max_bytes=MAX_FACTS), "facts")
    if fields.has("refused"):
        raise _refusal(fields.fields("refused"))
    fields.const("version", 1)
    outcome = Outcome(
        schema=Schema.parse(read_bounded(out / SCHEMA, MAX_BYTES, "schema of rows")),
        in_place=fields.boolean("inPlace"),
        rows=fields.integer("rows"),
        unread_bytes=fields.integer("unreadBytes"),
        files=fields.items("files", _file, max_items=MAX_FILES),
    )
    fields.done()
    if tuple(file.path for file in outcome.files) != files:
        raise EvidenceError("the row converter did not read exactly the files it was given")
    sums = (
        sum(file.rows for file in outcome.files),
        sum(file.unread_bytes for file in outcome.files),
    )
    if sums != (outcome.rows, outcome.unread_bytes):
        raise EvidenceError("the row converter's sums do not match its files")
    return outcome


def _file(value: object, where: str) -> FileOutcome:
    fields = Fields(value, where)
    outcome = FileOutcome(
        path=fields.text("path", max_length=MAX_PATH_BYTES),
        form=fields.text("form", max_length=20),
        rows=fields.integer("rows"),
        unread_bytes=fields.integer("unreadBytes"),
    )
    fields.done()
    return outcome


def _refusal(fields: Fields) -> RowsRefused:
    row = fields.rest()
    hint, number = row.get("hint"), row.get("row")
    return RowsRefused(
        str(row.get("file"))[:MAX_PATH_BYTES],
        str(row.get("reason"))[:MAX_REASON],
        row=number if type(number) is int else None,
        hint=None if hint is None else str(hint)[:MAX_REASON],
    )
