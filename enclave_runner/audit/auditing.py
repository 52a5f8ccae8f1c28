"""Run an audit in the machine: read its config, run the child that counts, check the results.

The config names a key and lists; every other input is data. Rows are made and checked as they are
for a training. The child's results are accepted only if they are about these rows and lists.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aicert.audits import config, joining, results
from aicert.audits.config import AuditConfig, Check
from aicert.errors import ConfigError, LockError, ToolError
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.run_report import RunReport, Value
from aicert.formats.run_report_facts import TEXT_NAME, Records
from aicert.records import select
from aicert.text import safe
from enclave_runner import machine_facts
from enclave_runner.audit import child
from enclave_runner.audit.child import RESULTS, DataRows, Job, TextFile
from enclave_runner.inputs import reportable, rows
from enclave_runner.inputs.measure import MeasuredInput, file_sizes
from enclave_runner.inputs.references import Selection, Text
from enclave_runner.inputs.rows import Room, Rows
from enclave_runner.sandbox import containment
from enclave_runner.sandbox.containment import Ended
from enclave_runner.sandbox.interpreter import PYTHON
from enclave_runner.sandbox.places import CODE, INPUTS, SCRATCH

# The child writes nothing but its results there.
_SCRATCH_BYTES = 4 * results.MAX_BYTES
_LOG_BYTES = 64 << 10
# The largest texts are vocabularies, with about 30 MB.
_MAX_TEXT = 64 << 20
# The names of inputs never begin with a dot, so this place is free.
_BESIDE = f"{INPUTS}/.texts"


@dataclass(frozen=True, kw_only=True, slots=True)
class Audited:
    """An audit that ended.

    `results`: None if it failed. `data`: the rows that it read. `log`: what the child printed.
    """

    results: bytes | None
    reading_seconds: float
    data: tuple[Records, ...]
    ended: Ended
    log: Path


def read_config(data: bytes, inputs: Mapping[str, MeasuredInput]) -> AuditConfig:
    """Read the config, and check that the run has the inputs that it names. Raises ConfigError."""
    settings = config.parse(data)
    config.check_inputs(settings, file_sizes(inputs))
    return settings


def run(
    settings: AuditConfig,
    inputs: Mapping[str, MeasuredInput],
    room: Room,
    scratch: Path,
    begin: Callable[[], None],
) -> Audited:
    """Make canonical rows, call `begin`, then audit them in a child that writes to `scratch`.

    LockError if the child's results are not about these inputs.
    """
    data = [
        Selection(input=name, number=0, form=None, splits=_splits(item))
        for name, item in inputs.items()
        if name not in settings.named
    ]
    prepared = rows.prepare(data, inputs, room)
    reportable.check_reportable(prepared.records, ())
    begin()
    beside = list(texts_of(settings, inputs))
    return count(settings, inputs, prepared, data, room, scratch, beside=beside)


def texts_of(
    settings: AuditConfig, inputs: Mapping[str, MeasuredInput]
) -> Iterator[tuple[str, Text]]:
    """Each file of the inputs that are texts, by the run's name of the input: a training may have
    an input of its own that is called as the audit's config calls one of these.
    """
    for name in settings.texts:
        item = inputs[name]
        for path, fact in item.files.items():
            text = Text(digest=Digest("sha256", fact.sha256), data=item.path / path)
            yield f"{item.name}/{path}" if path else item.name, text


def count(
    settings: AuditConfig,
    inputs: Mapping[str, MeasuredInput],
    prepared: Rows,
    selections: Sequence[Selection],
    room: Room,
    scratch: Path,
    *,
    beside: Iterable[tuple[str, Text]] = (),
) -> Audited:
    """Audit, in a child, the rows that were `prepared` from `selections` and the texts `beside`.

    `inputs`: the inputs that the config names, by the names that it uses, and possibly others.
    LockError if the child's results are not about these inputs.
    """
    texts = {entry.list for entry in settings.checks if _is_text_list(entry)}
    listed = _listed((inputs[name] for name in sorted(filter(None, texts))), selections)
    # The same input may have another name in the run than in the audit's config.
    names = {inputs[name].name: name for name in inputs}
    room = lists_of(room)
    room = replace(
        room,
        limits=replace(room.limits, scratch_bytes=room.limits.scratch_bytes - prepared.copied),
    )
    lists = rows.prepare(listed, {item.name: item for item in inputs.values()}, room)
    job = Job(
        inputs=INPUTS,
        digests={name: str(inputs[name].digest) for name in _lists(settings.checks)},
        data=[_place(each, selections, prepared) for each in prepared.records],
        texts=[
            replace(_place(each, listed, lists), name=names[each.name]) for each in lists.records
        ],
    )
    named = {
        f"{INPUTS}/{name}": inputs[name].path
        for name in settings.named - texts - set(settings.texts)
    }
    words = _write_texts(beside, room.folder / "beside")
    job = replace(job, beside=[text for text, _ in words])
    if words:
        named[_BESIDE] = room.folder / "beside"
    log = scratch.with_name(f"{scratch.name}-audit.log")
    ended = _contained(job, {**named, **lists.shown, **prepared.shown}, room, scratch, log)
    taken = (
        _taken(scratch / RESULTS, settings, inputs, prepared.records, words)
        if _is_well(ended)
        else None
    )
    return Audited(
        results=taken,
        reading_seconds=prepared.cpu_seconds + lists.cpu_seconds,
        data=prepared.records,
        ended=ended,
        log=log,
    )


def _write_texts(beside: Iterable[tuple[str, Text]], folder: Path) -> list[tuple[TextFile, Digest]]:
    """Write texts into `folder` for the child; return those that it gets, with their digests.

    Texts that are too large, or beyond the most that results may name, are left out.
    """
    folder.mkdir(mode=0o755)
    words: list[tuple[TextFile, Digest]] = []
    for name, text in beside:
        size = text.data.stat().st_size if isinstance(text.data, Path) else len(text.data or b"")
        if text.data is None or size > _MAX_TEXT or len(words) == results.MAX_BESIDE:
            # The results will not name this text, so nobody takes it for audited.
            continue
        if not TEXT_NAME.fullmatch(name) or any(name == each.name for each, _ in words):
            raise ConfigError(f"a text cannot be named like this, or two are: {safe(name)}")
        data = text.data.read_bytes() if isinstance(text.data, Path) else text.data
        if of_bytes(data) != text.digest:
            raise LockError(f"text {safe(name)} changed while it was read")
        place = str(len(words))
        (folder / place).write_bytes(data)
        words.append(
            (TextFile(name=name, path=f"{_BESIDE}/{place}", is_json=text.is_json), text.digest)
        )
    return words


def lists_of(room: Room) -> Room:
    """Return the room where lists of texts are made into rows, apart from the rows of the audit."""
    return replace(room, folder=room.folder.with_name(f"{room.folder.name}-lists"))


def _is_well(ended: Ended) -> bool:
    return ended.exit_code == "0" and ended.limit_hit is None


def _is_text_list(entry: Check) -> bool:
    return entry.kind == config.PASSAGES


def _listed(items: Iterable[MeasuredInput], selections: Sequence[Selection]) -> list[Selection]:
    """Select all rows of the lists of texts.

    They get a place of their own, because a training may also read rows of a list, and perhaps not
    all of its files.
    """
    number = 1 + max((each.number for each in selections), default=0)
    return [
        Selection(input=item.name, number=number, form=None, splits=_splits(item)) for item in items
    ]


def _lists(checks: Sequence[Check]) -> list[str]:
    return [entry.list for entry in checks if entry.list is not None]


def _splits(item: MeasuredInput) -> dict[str, tuple[str, ...]]:
    """Return the files of every split, chosen as `aicert audit` chooses them."""
    if item.is_file:
        return {select.DEFAULT: ("",)}
    chosen = select.choose(item.files, where=f"input {item.name}")
    return {split: tuple(files) for split, files in chosen.items()}


def _place(records: Records, selections: Sequence[Selection], prepared: Rows) -> DataRows:
    """Return where the child finds these rows: one file, or several that are used in place."""
    place = next(
        each.place
        for each in selections
        if each.input == records.name and records.split in each.splits
    )
    name = re.compile(rf"{re.escape(records.split)}-[0-9]+-of-[0-9]+\.jsonl")
    files = sorted(path.name for path in (prepared.shown[place] / "data").iterdir())
    return DataRows(
        name=records.name,
        split=records.split,
        unread_bytes=records.unread_bytes,
        files=[f"{place}/data/{path}" for path in files if name.fullmatch(path)],
    )


def _contained(job: Job, shown: Mapping[str, Path], room: Room, scratch: Path, log: Path) -> Ended:
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(scratch.iterdir()):
        raise ToolError(f"{scratch} is not empty: a run starts from nothing")
    if room.user is not None:
        os.chown(scratch, room.user, room.user)
    written = log.with_suffix(".json")
    written.write_bytes(job.emit())
    return containment.run(
        (PYTHON, "-P", "-m", child.__name__, SCRATCH),
        rows.sandbox(
            room, scratch, {**shown, f"{CODE}/enclave_runner/audit": Path(child.__file__).parent}
        ),
        replace(
            room.limits,
            processes=rows.PROCESSES,
            scratch_bytes=_SCRATCH_BYTES,
            log_bytes=_LOG_BYTES,
        ),
        log,
        lambda _: None,
        stdin=written,
    )


def _taken(
    path: Path,
    settings: AuditConfig,
    inputs: Mapping[str, MeasuredInput],
    data: Sequence[Records],
    words: Iterable[tuple[TextFile, Digest]] = (),
) -> bytes:
    """Read the results that a child left.

    LockError or EvidenceError unless they are for this config, and about these rows, lists and
    texts.
    """
    if not path.is_file():
        raise LockError("the audit ended with 0 but left no results")
    with rows.opened(path) as file:
        written = file.read(results.MAX_BYTES + 1)
    parsed = results.parse(written)
    asked = [(each.name, each.kind, each.column, each.list) for each in settings.checks]
    if [(e.name, e.kind, e.column, e.list and e.list.name) for e in parsed.checks] != asked:
        raise LockError("the audit's results are for other checks than its config asks for")
    if any((fact.domains and fact.domains.column) != settings.domains for fact in parsed.data):
        raise LockError(
            "the audit's results have another table of domains than its config asks for"
        )
    if {(each.name, each.digest) for each in parsed.texts} - {(t.name, d) for t, d in words}:
        raise LockError("the audit's results name a text that the run does not have")
    joining.check_rows(parsed, data)
    joining.check_lists(parsed.checks, {name: item.digest for name, item in inputs.items()})
    return written


def report(audited: Audited, inputs: Mapping[str, MeasuredInput]) -> RunReport:
    """Build the run report of an audit."""
    ended = audited.ended
    size = len(audited.results or b"")
    values = {
        "wallSeconds": Value("measured", round(ended.wall_seconds, 3)),
        "cpuSeconds": Value("measured", round(ended.cpu_seconds, 3)),
        "readingCpuSeconds": Value("measured", round(audited.reading_seconds, 3)),
        "maxMemoryBytes": Value("measured", ended.max_rss),
        "outputBytes": Value("measured", size),
        "inputBytes": Value(
            "measured", sum(f.size for item in inputs.values() for f in item.files.values())
        ),
        **machine_facts.values(),
    }
    if ended.limit_hit is not None:
        values["limitHit"] = Value("measured", ended.limit_hit)
    if ended.log_truncated:
        values["logTruncated"] = Value("measured", 1)
    return RunReport(exit_code=ended.exit_code, values=values, records=audited.data)
