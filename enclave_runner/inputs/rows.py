"""Make the rows that the trainer reads from data inputs: convert them in a child, check them here.

For each split that the config names, a child without TPM and network sees only that input, writes
canonical rows into a folder of its own, and ends (docs/spec/records.md). It parses bytes that
anybody may have written, so nothing that it writes is believed: the strict reader then checks every
byte that the trainer will read. Files that are already canonical are used where they are. Every
refusal comes before training.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from aicert.errors import EvidenceError, LockError
from aicert.formats.run_report_facts import Records
from aicert.records import convert, outcome
from aicert.records.errors import RowsRefused
from aicert.records.infer import Columns
from aicert.records.reader import Checker, NotCanonical, blocks
from aicert.records.schema import Schema
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Selection, canonical_name
from enclave_runner.sandbox import containment
from enclave_runner.sandbox.containment import Ended, Limits, Sandbox
from enclave_runner.sandbox.interpreter import PYTHON, interpreter
from enclave_runner.sandbox.places import CODE, SCRATCH, SOURCE

# The most processes that a child may have; it converts one file at a time.
PROCESSES = 64
# The run's limits are meant for training and may be too low for a conversion. A child gets at least
# these, which end it only if it hangs or needs more than any rows do.
_LEAST_SECONDS = 600.0
_LEAST_MEMORY = 512 << 20
_LOG_BYTES = 64 << 10
_SHOWN_BYTES = 1000
_SUFFIXES = {None: ".jsonl", "json": ".jsonl", "parquet": ".parquet", "csv": ".csv", "text": ".txt"}
_FORM_HINT = (
    "if it is not JSON, say so in the config, next to its `path`: `ds_type: parquet` (or csv, text)"
)
_PACKINGS = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """The folder and limits for making rows, which children do as `user`.

    `folder`: must not exist yet.
    """

    folder: Path
    training_env: Path
    limits: Limits
    user: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Rows that were made and checked.

    `shown`: what the trainer sees, place → file or folder. `records`: what the run report says
    about them. `copied`: the size of copies in bytes. `columns`: names of columns, by the place of
    their rows. `cpu_seconds`: time spent on converting and checking.
    """

    shown: Mapping[str, Path]
    records: tuple[Records, ...]
    copied: int
    columns: Mapping[str, tuple[str, ...]]
    cpu_seconds: float


def prepare(
    selections: Sequence[Selection],
    inputs: Mapping[str, MeasuredInput],
    room: Room,
) -> Rows:
    """Make and check the rows of every selection. Raises RowsRefused."""
    began = _cpu_seconds()
    room.folder.mkdir(mode=0o755)
    maker = _Maker(room)
    for selection in selections:
        maker.make(selection, inputs[selection.input])
    return Rows(
        shown=maker.shown,
        # Two entries of a config may read the same rows.
        records=tuple(dict.fromkeys(maker.records)),
        copied=maker.copied,
        columns=maker.columns,
        cpu_seconds=_cpu_seconds() - began,
    )


class _Maker:
    """Makes the rows of selections, one after another."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.shown: dict[str, Path] = {}
        self.records: list[Records] = []
        self.copied = 0
        self.columns: dict[str, tuple[str, ...]] = {}

    def make(self, selection: Selection, source: MeasuredInput) -> None:
        folder = self._room.folder / selection.input / str(selection.number)
        (folder / "data").mkdir(parents=True)
        self.shown[selection.place] = folder
        columns = Columns()
        for split, files in selection.splits.items():
            columns.absorb_schema(self._split(selection, split, files, source, folder))
        # One schema for all splits: a column that only one of them has is null in the others.
        schema = columns.schema()
        (folder / convert.SCHEMA).write_bytes(schema.emit())
        self.columns[selection.place] = tuple(name for name, _ in schema.columns)

    def _split(
        self,
        selection: Selection,
        split: str,
        files: tuple[str, ...],
        source: MeasuredInput,
        folder: Path,
    ) -> Schema:
        """Convert and check the files of one split, record them, and return their schema."""
        work = self._room.folder / "converter"
        converted = self._convert(selection, files, source, work)
        checker = Checker(converted.schema)
        if converted.in_place:
            for index, path in enumerate(files):
                name = canonical_name(split, index, len(files))
                # This is the mount point for the file itself.
                (folder / name).touch()
                self.shown[f"{selection.place}/{name}"] = source.path / path
                _check_in_place(source, path, checker)
        else:
            copy = folder / canonical_name(split, 0, 1)
            (work / convert.ROWS).rename(copy)
            self.copied += self._check_copy(copy, source.name, checker)
        shutil.rmtree(work)
        fact = checker.fact()
        if fact.rows != converted.rows:
            raise LockError(
                f"input {source.name}: {fact.rows} rows were written, not {converted.rows}"
            )
        self.records.append(
            Records(
                name=source.name,
                split=split,
                rows=fact.rows,
                bytes=fact.bytes,
                digest=fact.digest,
                unread_bytes=converted.unread_bytes,
                files=() if source.is_file else files,
            )
        )
        return converted.schema

    def _convert(
        self, selection: Selection, files: tuple[str, ...], source: MeasuredInput, work: Path
    ) -> outcome.Outcome:
        room = self._room
        left = room.limits.scratch_bytes - self.copied
        shown_at, names = _seen(selection, files, source)
        request = convert.Request(root=SOURCE, files=names, scratch=left)
        written = room.folder / "request.json"
        written.write_bytes(request.emit())
        work.mkdir(mode=0o700)
        if room.user is not None:
            os.chown(work, room.user, room.user)
        log = room.folder / "converter.log"
        ended = containment.run(
            (PYTHON, "-P", "-m", convert.__name__, SCRATCH),
            sandbox(room, work, shown_at),
            # Facts and schema come on top of the rows.
            replace(
                room.limits,
                seconds=max(room.limits.seconds, _LEAST_SECONDS),
                memory_bytes=max(room.limits.memory_bytes, _LEAST_MEMORY),
                processes=PROCESSES,
                scratch_bytes=left + outcome.MAX_FACTS,
                log_bytes=_LOG_BYTES,
            ),
            log,
            lambda _: None,
            stdin=written,
        )
        _check_left(work, source.name)
        if ended.exit_code not in ("0", "2") or not (work / convert.FACTS).exists():
            raise LockError(f"input {source.name}: {_death(ended, log)}")
        try:
            return outcome.read(work, names)
        except RowsRefused as error:
            file = (
                f"{source.name} = {source.uri}" if source.is_file else f"{source.name}/{error.file}"
            )
            hint = error.hint
            if source.is_file and selection.form is None:
                # The file has no name here that tells its format, so the config has to.
                hint = _FORM_HINT if hint is None else f"{hint}; or {_FORM_HINT}"
            raise RowsRefused(file, error.reason, row=error.row, hint=hint) from None

    def _check_copy(self, copy: Path, name: str, checker: Checker) -> int:
        """Check a converter's rows, take ownership of them, and return their size."""
        with opened(copy) as file:
            os.fchmod(file.fileno(), 0o644)
            if self._room.user is not None:
                os.fchown(file.fileno(), os.getuid(), os.getgid())
            _feed(file, checker, name, lambda _: None)
            return os.fstat(file.fileno()).st_size


def _check_in_place(source: MeasuredInput, path: str, checker: Checker) -> None:
    """Check rows in the input itself, and that they are the bytes that were hashed."""
    digest = hashlib.sha256()
    with opened(source.path / path) as file:
        _feed(file, checker, source.name, digest.update)
    if digest.hexdigest() != source.files[path].sha256:
        raise EvidenceError(f"input {source.name}: {path or 'it'} changed while it was read")


def _feed(file: BinaryIO, checker: Checker, name: str, also: Callable[[bytes], None]) -> None:
    try:
        for block in blocks(file):
            checker.feed(block)
            also(block)
        checker.end_of_file()
    except NotCanonical as error:
        raise LockError(f"input {name}: the converted {error.message}") from None


def _seen(
    selection: Selection, files: tuple[str, ...], source: MeasuredInput
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return what a child sees of the input, and the names of the files there."""
    if not source.is_file:
        return {SOURCE: source.path.resolve()}, files
    with source.path.open("rb") as file:
        start = file.read(4)
    packing = next((end for magic, end in _PACKINGS.items() if start.startswith(magic)), "")
    name = f"rows{_SUFFIXES[selection.form]}{packing}"
    return {f"{SOURCE}/{name}": source.path.resolve()}, (name,)


def sandbox(room: Room, work: Path, shown: Mapping[str, Path]) -> Sandbox:
    """Return the sandbox for a program of ours that reads rows.

    It sees `shown`, place → file or folder, and may write only to `work`.
    """
    return Sandbox(
        read_only={
            **interpreter(room.training_env),
            f"{CODE}/aicert": Path(convert.__file__).parents[1],
            **shown,
        },
        scratch=work,
        environment={
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "HOME": SCRATCH,
            "LC_ALL": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONNOUSERSITE": "1",
            "PYTHONPATH": CODE,
            "PYTHONSAFEPATH": "1",
            "TZ": "UTC",
        },
        user=room.user,
    )


def _check_left(work: Path, name: str) -> None:
    """Refuse entries that our converter never makes: links, devices, files with other names."""
    with os.scandir(work) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            known = entry.name in (convert.ROWS, convert.SCHEMA, convert.FACTS)
            if not known or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise LockError(f"input {name}: its converter left {entry.name[:80]!a} behind")


def opened(path: Path) -> BinaryIO:
    """Open a file that another process left, without following a link."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.fdopen(os.open(path, flags), "rb")


def _death(ended: Ended, log: Path) -> str:
    """Say why there are no rows, with the end of the child's log."""
    if ended.limit_hit is not None:
        return f"its rows could not be converted within the limit on {ended.limit_hit}"
    with log.open("rb") as file:
        file.seek(-min(_SHOWN_BYTES, log.stat().st_size), os.SEEK_END)
        tail = file.read().decode("ascii", "replace")
    shown = "".join(char if " " <= char <= "~" or char == "\n" else "?" for char in tail)
    return f"its converter ended with {ended.exit_code}\n{shown}".rstrip()


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
