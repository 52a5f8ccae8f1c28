"""Run the audits that a training names: unless all of them hold, the training does not begin.

The config, the key and the lists of each audit are inputs of the training, under names that begin
with the audit's name. Its data are the very rows that were made for the trainer, and the texts
beside them. An audit holds if its counts are within the bounds of its config
(`aicert.audits.bounds`).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aicert.audits import bounds, config, results
from aicert.audits.config import AuditConfig
from aicert.errors import ConfigError
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.lockfile import CONFIG_INPUT, Lockfile, audit_input
from aicert.formats.run_report import RunReport, Value
from aicert.frozen import dataclass as record
from aicert.text import safe
from enclave_runner import machine_facts
from enclave_runner.audit import auditing
from enclave_runner.audit.auditing import Audited
from enclave_runner.inputs import measure
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Selection, Text
from enclave_runner.inputs.rows import Room, Rows

# The exit code of a run that did not begin because an audit counted more than its config allows.
BEYOND = "1"


@record(frozen=True, slots=True, kw_only=True)
class AuditRequest:
    """An audit to make: its name, its config, and its inputs by the names that the config uses."""

    name: str
    settings: AuditConfig
    inputs: Mapping[str, MeasuredInput]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """The outcome of all audits.

    `results`: by audit; None if an audit failed. `exit_code`: `0` if all hold. `limit_hit`: the
    limit that ended an audit, if one did. `lines`: why audits do not hold.
    """

    results: Mapping[str, bytes | None]
    exit_code: str
    limit_hit: str | None
    lines: tuple[str, ...]

    @property
    def named(self) -> tuple[tuple[str, Digest | None], ...]:
        """The digests of the results by audit, in the form that the run report has."""
        return tuple(
            (name, None if data is None else of_bytes(data)) for name, data in self.results.items()
        )


def read(lockfile: Lockfile, measured: Sequence[MeasuredInput]) -> list[AuditRequest]:
    """Read the audits that the lockfile names. ConfigError if the run lacks an input of one."""
    return [_asked(name, measured) for name in lockfile.audits]


def _asked(audit: str, measured: Sequence[MeasuredInput]) -> AuditRequest:
    begin = audit_input(audit, "")
    inputs = {
        item.name.removeprefix(begin): item for item in measured if item.name.startswith(begin)
    }
    try:
        data = measure.config_bytes(inputs[CONFIG_INPUT], config.MAX_BYTES, "the audit's config")
        settings = config.parse(data)
        config.check_named(settings, measure.file_sizes(inputs))
    except ConfigError as error:
        raise ConfigError(f"audit {audit}: {error.message}", hint=error.hint) from None
    return AuditRequest(name=audit, settings=settings, inputs=inputs)


def check_rows(prepared: Rows) -> None:
    """Refuse a training without rows, or with rows that audits cannot tell apart.

    Raises ConfigError.
    """
    if not prepared.records:
        raise ConfigError("the run reads no rows, so no audit can hold", hint="remove `audits`")
    names = [(each.name, each.split) for each in prepared.records]
    for name, split in names:
        if names.count((name, split)) > 1:
            raise ConfigError(
                f"the config selects {name} {safe(split)} twice, with other files: its audits "
                "could not tell which rows are meant"
            )


def run(
    asked: Sequence[AuditRequest],
    prepared: Rows,
    selections: Sequence[Selection],
    texts: Sequence[tuple[str, Text]],
    room: Room,
    scratch: Path,
) -> Gate:
    """Make every audit, each in a child of its own, and remove all their files afterwards."""
    audited = {
        one.name: _one(
            one, prepared, selections, texts, room, scratch.with_name(f"{scratch.name}-gate")
        )
        for one in asked
    }
    ended = [(each.ended.exit_code, each.ended.limit_hit) for each, _ in audited.values()]
    code, limit = next((each for each in ended if each != ("0", None)), ("0", None))
    lines = [f"audit {name}: {line}" for name, (_, why) in audited.items() for line in why]
    if code == "0" and lines:
        code = BEYOND
    return Gate(
        results={name: each.results for name, (each, _) in audited.items()},
        exit_code=code,
        limit_hit=limit,
        lines=tuple(lines),
    )


def _one(
    one: AuditRequest,
    prepared: Rows,
    selections: Sequence[Selection],
    texts: Sequence[tuple[str, Text]],
    room: Room,
    scratch: Path,
) -> tuple[Audited, list[str]]:
    """Make an audit; return it, and why it does not hold. The list is empty if it does."""
    room = replace(room, folder=scratch.with_name(f"{scratch.name}-rows"))
    beside = [*auditing.texts_of(one.settings, one.inputs), *texts]
    audited = auditing.count(
        one.settings, one.inputs, prepared, selections, room, scratch, beside=beside
    )
    if audited.results is None:
        text = audited.log.read_text(encoding="utf-8", errors="replace")
        why = [f"it ended with {audited.ended.exit_code}", *text.splitlines()]
    else:
        names = [name for name, _ in beside]
        why = bounds.beyond(one.settings, results.parse(audited.results), names)
    shutil.rmtree(scratch)
    shutil.rmtree(auditing.lists_of(room).folder)
    audited.log.unlink()
    return audited, why


def report(gate: Gate, prepared: Rows, inputs: Sequence[MeasuredInput]) -> RunReport:
    """Build the run report of a training that did not begin."""
    values = {
        "readingCpuSeconds": Value("measured", round(prepared.cpu_seconds, 3)),
        "inputBytes": Value("measured", sum(f.size for i in inputs for f in i.files.values())),
        **machine_facts.values(),
    }
    if gate.limit_hit is not None:
        values["limitHit"] = Value("measured", gate.limit_hit)
    return RunReport(
        exit_code=gate.exit_code, values=values, records=prepared.records, audits=gate.named
    )
