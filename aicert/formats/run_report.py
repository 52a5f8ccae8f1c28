"""The run report: what the runner says about one training, each value with its origin.

`measured` by the runner outside the trainer; `derived` by the runner from measured values;
`in-trainer`: counted by the image's code in the trainer's process (only in version 2);
`self-reported` by the trainer, which runs the builder's config and data and may say anything. The
report's digest is extended into PCR 8; its bytes travel inside the statement.

Version 2 adds what training read and what was measured about it (`run_report_facts`). A report of
version 1 has none of that, and stays readable.
"""

import re
from collections.abc import Mapping
from typing import Literal, cast

from aicert.errors import EvidenceError
from aicert.formats import run_report_facts
from aicert.formats.digest import Digest
from aicert.formats.lockfile import MAX_AUDITS, MAX_INPUTS, NAME
from aicert.formats.measurement import check_exit_code
from aicert.formats.run_report_facts import (
    COUNTED,
    NO_FACTS,
    ComputeFacts,
    CountedRows,
    Facts,
    Loss,
    Records,
)
from aicert.formats.strict_json import Fields, dumps, loads, string
from aicert.frozen import dataclass, replace

VERSION = 2
# The losses of a long run dominate: 20,000 values of some 20 bytes.
MAX_BYTES = 1 << 20
# The runner writes some thirty values.
MAX_VALUES = 200
MAX_ITEMS = 20_000
# Stands for the results of an audit that ended without any.
NO_RESULTS = "none"

Origin = Literal["measured", "derived", "in-trainer", "self-reported"]
IN_TRAINER: Origin = "in-trainer"
ORIGINS = ("measured", "derived", IN_TRAINER, "self-reported")
# The origins that version 1 has.
_OLDER_ORIGINS = ("measured", "derived", "self-reported")
Scalar = str | int | float
_KEY = re.compile(r"[a-z][a-zA-Z0-9]{0,63}")


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the report. `data` is a scalar or a list of numbers; units are in the key."""

    origin: Origin
    data: Scalar | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A config key that the runner set: the config's value, the value used, and why."""

    key: str
    configured: str
    used: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What the runner says about one training.

    `unchanged_weights`: output weight files whose bytes equal a file of an input (measured).
    `signatures`: output → digest of the model signature that the runner made for it
    (aicert.model_signature.writer). `signers`: input → key whose signature over it the runner
    verified (aicert.model_signature.signed_by). `audits`: audits that were made before the run →
    digest of their results, None where an audit ended without any.

    Only in version 2: `records` (derived), in the order of the config; `loss` (measured), None if
    training failed; `texts` (measured): text that comes from no row, name → SHA-256, sorted;
    `removed` (measured): what was removed from an input's files before the trainer saw them, as
    `INPUT/FILE: KEY`.
    """

    exit_code: str
    values: Mapping[str, Value]
    overrides: tuple[Override, ...] = ()
    unchanged_weights: tuple[str, ...] = ()
    signatures: tuple[tuple[str, Digest], ...] = ()
    signers: tuple[tuple[str, str], ...] = ()
    records: tuple[Records, ...] = ()
    loss: Loss | None = None
    texts: tuple[tuple[str, Digest], ...] = ()
    removed: tuple[str, ...] = ()
    audits: tuple[tuple[str, Digest | None], ...] = ()
    version: int = VERSION

    @property
    def audited(self) -> tuple[str, ...]:
        """The names of the audits that were made before the run."""
        return tuple(name for name, _ in self.audits)

    def number(self, key: str) -> float | None:
        """Return a numeric value by key, or None if the report has none."""
        value = self.values.get(key)
        if value is None or isinstance(value.data, str | tuple):
            return None
        return value.data

    @property
    def self_reported(self) -> "RunReport":
        """The same report for a run in which an input's code ran in the trainer: everything in
        `values` becomes self-reported.
        """
        values = {key: Value("self-reported", value.data) for key, value in self.values.items()}
        return replace(self, values=values)

    @property
    def facts(self) -> Facts | None:
        """Everything that version 2 adds, together; None in version 1."""
        if self.version == 1:
            return None
        return Facts(
            records=self.records,
            loss=self.loss,
            texts=self.texts,
            removed=self.removed,
            audits=self.audits,
        )

    @property
    def compute(self) -> ComputeFacts:
        """What the run could compute on: processors, accelerators and weights count only if their
        origin is `measured`, and rows only if they were counted in the trainer's process.
        """
        weights = self._of_origin("weightInputs", "measured")
        return ComputeFacts(
            processors=self._count("processorCount", 1),
            accelerators=self._count("acceleratorCount", 0),
            weight_inputs=_names(weights) if isinstance(weights, str) else None,
            counted=self._counted_rows(),
            flops=self.number("flops"),
            epochs=self.number("epochs"),
        )

    def _counted_rows(self) -> CountedRows | None:
        """Return the rows counted in the trainer's process, None if there are none; `parse` has
        checked that the four values belong together.
        """
        epochs, rows, of, steps = (self._of_origin(key, IN_TRAINER) for key in COUNTED)
        if epochs is None:
            return None
        return CountedRows(
            epochs=cast(float, epochs),
            rows=cast(int, rows),
            of=cast(int, of),
            steps=cast(int, steps),
        )

    def _of_origin(self, key: str, origin: Origin) -> Scalar | tuple[float, ...] | None:
        value = self.values.get(key)
        return value.data if value is not None and value.origin == origin else None

    def _count(self, key: str, least: int) -> int | None:
        data = self._of_origin(key, "measured")
        return data if isinstance(data, int) and data >= least else None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


def emit(report: RunReport) -> bytes:
    """Return the report's bytes; `parse(emit(r)) == r`."""
    check_exit_code(report.exit_code)
    values: dict[str, object] = {}
    for key, value in report.values.items():
        plain = list(value.data) if isinstance(value.data, tuple) else value.data
        values[key] = {"origin": value.origin, "value": plain}
    document: dict[str, object] = {
        "exitCode": {"origin": "measured", "value": report.exit_code},
        "overrides": [
            {"configured": o.configured, "key": o.key, "used": o.used, "why": o.why}
            for o in report.overrides
        ],
        "unchangedWeights": {"origin": "measured", "value": list(report.unchanged_weights)},
        "values": values,
        "version": report.version,
    }
    if report.signatures:
        signed = {name: str(digest) for name, digest in report.signatures}
        document["signatures"] = {"origin": "measured", "value": signed}
    if report.signers:
        document["signers"] = {"origin": "measured", "value": dict(report.signers)}
    if report.audits:
        results = {name: str(digest or NO_RESULTS) for name, digest in report.audits}
        document["audits"] = {"origin": "measured", "value": results}
    facts = Facts(
        records=report.records, loss=report.loss, texts=report.texts, removed=report.removed
    )
    # In version 1, `parse` refuses these facts.
    if report.version > 1 or facts != NO_FACTS:
        document |= run_report_facts.to_json(facts)
    data = dumps(document)
    parse(data)
    return data


def parse(data: bytes) -> RunReport:
    """Read a run report strictly; raises EvidenceError."""
    fields = Fields(loads(data, what="run report", max_bytes=MAX_BYTES), "report")
    version = fields.integer("version", low=1, high=VERSION)
    code = fields.fields("exitCode")
    code.const("origin", "measured")
    exit_code = code.text("value", max_length=20)
    code.done()
    check_exit_code(exit_code)
    unchanged = fields.fields("unchangedWeights")
    unchanged.const("origin", "measured")
    unchanged_weights = unchanged.items("value", string, max_items=MAX_ITEMS)
    unchanged.done()
    overrides = fields.items("overrides", _read_override, max_items=MAX_VALUES)
    origins = ORIGINS if version > 1 else _OLDER_ORIGINS
    values = _read_values(fields.fields("values"), origins)
    signatures = _read_names(fields, "signatures", "outputs", MAX_VALUES)
    signers = _read_names(fields, "signers", "inputs", MAX_INPUTS)
    audits = tuple(map(_audit, _read_names(fields, "audits", "audits", MAX_AUDITS)))
    facts = run_report_facts.read(fields) if version > 1 else NO_FACTS
    fields.done()
    if exit_code == "0" and not all(digest for _, digest in audits):
        raise EvidenceError("the run ended well, but not every audit before it has results")
    return RunReport(
        version=version,
        exit_code=exit_code,
        values=values,
        overrides=overrides,
        unchanged_weights=unchanged_weights,
        signatures=tuple((name, Digest.parse(text)) for name, text in signatures),
        signers=signers,
        records=facts.records,
        loss=facts.loss,
        texts=facts.texts,
        removed=facts.removed,
        audits=audits,
    )


def _audit(given: tuple[str, str]) -> tuple[str, Digest | None]:
    """Return an audit's name and the digest of its results' file, None if it has no results."""
    name, text = given
    digest = None if text == NO_RESULTS else Digest.parse(text)
    if digest is not None and digest.kind != "sha256":
        raise EvidenceError(f"the results of audit {name} are not named by a digest sha256:…")
    return name, digest


def _read_names(report: Fields, key: str, of: str, most: int) -> tuple[tuple[str, str], ...]:
    """Read a measured table of texts by name, sorted; it is absent if it would be empty."""
    if not report.has(key):
        return ()
    fields = report.fields(key)
    fields.const("origin", "measured")
    value = fields.fields("value")
    fields.done()
    rest = value.rest()
    if not 1 <= len(rest) <= most or not all(NAME.fullmatch(name) for name in rest):
        raise EvidenceError(f"{value.where}: expected names of {of}")
    return tuple((name, string(rest[name], value.where)) for name in sorted(rest))


def _read_override(value: object, where: str) -> Override:
    fields = Fields(value, where)
    override = Override(
        key=fields.text("key"),
        configured=fields.text("configured"),
        used=fields.text("used"),
        why=fields.text("why"),
    )
    fields.done()
    return override


def _read_values(fields: Fields, origins: tuple[str, ...]) -> dict[str, Value]:
    rest = fields.rest()
    if len(rest) > MAX_VALUES:
        raise EvidenceError(f"{fields.where} has more than {MAX_VALUES} values")
    values: dict[str, Value] = {}
    for key, item in rest.items():
        if not _KEY.fullmatch(key):
            raise EvidenceError(f"{fields.where} has a key that is not a name: {key[:80]!a}")
        one = Fields(item, f"{fields.where}.{key}")
        origin = one.text("origin", max_length=20)
        if origin not in origins:
            raise EvidenceError(f"{one.where}.origin is not one of {', '.join(origins)}")
        data = _data(one.rest(), one.where)
        values[key] = Value(cast(Origin, origin), data)
    _check_counted(values, fields.where)
    return values


def _check_counted(values: Mapping[str, Value], where: str) -> None:
    """Refuse values counted in the trainer's process unless all four are there and agree."""
    numbers = {key: value.data for key, value in values.items() if value.origin == IN_TRAINER}
    if not numbers:
        return
    if numbers.keys() != set(COUNTED):
        raise EvidenceError(f"{where}: expected all of {', '.join(COUNTED)} to be {IN_TRAINER}")
    epochs, rows, of, steps = (numbers[key] for key in COUNTED)
    if (
        not all(type(number) is int for number in (rows, of, steps))
        or type(epochs) not in (int, float)
        or not 0 <= cast(float, epochs) <= cast(int, rows) / max(cast(int, of), 1)
        or cast(int, of) < 1
        or cast(int, steps) < 0
    ):
        raise EvidenceError(f"{where}: {', '.join(COUNTED)} do not fit together")


def _data(rest: dict[str, object], where: str) -> Scalar | tuple[float, ...]:
    if list(rest) != ["value"]:
        raise EvidenceError(f"{where}: expected origin and value")
    value = rest["value"]
    if isinstance(value, list):
        if len(value) > MAX_ITEMS or any(type(v) not in (int, float) for v in value):
            raise EvidenceError(f"{where}.value: expected at most {MAX_ITEMS} numbers")
        return tuple(value)
    if type(value) is str:
        return string(value, where)
    if type(value) is int or type(value) is float:
        return value
    raise EvidenceError(f"{where}.value: expected a string, a number or numbers")
