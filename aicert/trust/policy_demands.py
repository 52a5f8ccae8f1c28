"""Read the tables of a policy file that demand something of a run (docs/spec/policy.md)."""

import math
import re
from collections.abc import Sequence
from datetime import date

from aicert.appraisal.evidence.accepted import (
    CAPS,
    AuditDemand,
    Caps,
    ComputeDemand,
    EvaluationDemand,
    NoteSigner,
)
from aicert.appraisal.policy import Claim
from aicert.errors import AicertError, ConfigError, EvidenceError
from aicert.formats.digest import Digest
from aicert.formats.run_report import ORIGINS
from aicert.tlog.notes import COSIGNATURE, ED25519, VerifierKey
from aicert.trust.policy_table import PolicyTable

_METRIC = re.compile(r"[a-z0-9_.,-]{1,80}")


def claim(item: object, path: str) -> Claim:
    """Read a [[claim]]: a bound on a number in the run report."""
    table = PolicyTable(item, path, "claim")
    name = table.text("name")
    low, high = table.number("at-least"), table.number("at-most")
    origins = frozenset(table.texts("origins")) or frozenset(("measured", "derived"))
    table.done()
    if low is None and high is None:
        raise ConfigError(f"{path}: claim {name}: at-least or at-most is missing")
    unknown = sorted(origins.difference(ORIGINS))
    if unknown:
        raise ConfigError(f"{path}: claim {name}: no origin is named {unknown[0]!r}")
    return Claim(name=name, at_least=low, at_most=high, origins=origins)


def audit(item: object, path: str) -> AuditDemand:
    """Read an [[audit]]: what audits of the rows must have looked for, and may have counted."""
    from aicert.audits.config import KINDS, MAX_COLUMN

    table = PolicyTable(item, path, "audit")
    kind, column = table.text("kind"), table.text("column", "")
    listed = table.text("list", "")
    names = ("at-most", "missing", "unparsable", "unusable", "unread-bytes")
    bounds = {name: table.integer(name) for name in names}
    texts = table.texts("texts")
    table.done()
    where = f"{path}: audit {kind[:80]}"
    if kind not in KINDS:
        raise ConfigError(f"{where}: there is no such kind, only {', '.join(KINDS)}")
    has_list, must_have_column = KINDS[kind]
    if must_have_column and not column:
        raise ConfigError(f"{where}: column is missing")
    if len(column) > MAX_COLUMN or not column.isprintable():
        raise ConfigError(f"{where}: column is not the name of a column")
    if has_list != bool(listed) or (bounds["unusable"] is not None and not has_list):
        raise ConfigError(f"{where}: list is missing" if has_list else f"{where} has no list")
    for name, bound in bounds.items():
        if bound is not None and bound < 0:
            raise ConfigError(f"{where}: {name} is {bound}, but must be 0 or more")
    return AuditDemand(
        kind=kind,
        column=column or None,
        list=_digest(listed, f"{where}: list") if listed else None,
        at_most=bounds["at-most"] or 0,
        missing=bounds["missing"],
        unparsable=bounds["unparsable"],
        unusable=bounds["unusable"],
        unread_bytes=bounds["unread-bytes"],
        texts=frozenset(_digest(text, f"{where}: texts") for text in texts),
    )


def evaluation(item: object, path: str) -> EvaluationDemand:
    """Read an [[evaluation]]: the metric of a task that the model must have, and how good."""
    table = PolicyTable(item, path, "evaluation")
    task, metric = table.text("task"), table.text("metric")
    where = f"{path}: evaluation {metric[:80]!a}"
    low, high = table.number("at-least"), table.number("at-most")
    samples, tokens = table.integer("samples-at-least"), table.integer("template-tokens")
    table.done()
    if not _METRIC.fullmatch(metric):
        raise ConfigError(f"{where}: metric is not the name of a metric, such as loss")
    for key, number in (("at-least", low), ("at-most", high)):
        if number is not None and not math.isfinite(number):
            raise ConfigError(f"{where}: {key} is {number}, but must be finite")
    if low is None and high is None:
        raise ConfigError(f"{where}: at-least or at-most is missing")
    if samples is None:
        raise ConfigError(f"{where}: samples-at-least is missing")
    if samples < 1 or (tokens is not None and tokens < 0):
        raise ConfigError(
            f"{where}: samples-at-least must be 1 or more, and template-tokens 0 or more"
        )
    return EvaluationDemand(
        task=_task(task, f"{where}: task"),
        metric=metric,
        samples=samples,
        at_least=low,
        at_most=high,
        template_tokens=tokens,
    )


def _task(text: str, where: str) -> Digest:
    """Return the digest of a task, which the policy may name if the image carries it."""
    from aicert.formats.evaluated_tasks import BY_DIGEST

    named = {task.name: digest for digest, task in BY_DIGEST.items()}
    if text in named:
        return named[text]
    if ":" not in text:
        known = ", ".join(named)
        raise ConfigError(f"{where}: neither a digest nor a task of the image: {text[:80]!a}",
            hint=f"the image has {known}; a digest begins with sha256:")  # fmt: skip
    return _digest(text, where)


def _digest(text: str, where: str) -> Digest:
    try:
        return Digest.parse(text)
    except AicertError as error:
        raise ConfigError(f"{where}: {error.message}") from None


def log(item: object, path: str) -> NoteSigner:
    """Read a [[log]]: a transparency log with its key, whose name is the log's origin."""
    return _note_signer(item, path, "log", ED25519)


def witness(item: object, path: str) -> NoteSigner:
    """Read a [[witness]] of logs."""
    return _note_signer(item, path, "witness", COSIGNATURE)


def quorum(table: PolicyTable, path: str, witnesses: Sequence[NoteSigner], before: int) -> int:
    """Return how many witnesses must cosign, 0 for all of them.

    That is the file's key `witnesses`, or `before`, the number of the extended policy.
    """
    given = table.integer("witnesses")
    number = before if given is None else given
    if given is not None and not 1 <= number <= len(witnesses):
        raise ConfigError(
            f"{path}: witnesses is {number}, but there are {len(witnesses)} [[witness]]"
        )
    return number


def _note_signer(item: object, path: str, kind: str, algorithm: int) -> NoteSigner:
    table = PolicyTable(item, path, kind)
    name, text = table.text("name"), table.text("key")
    table.done()
    try:
        key = VerifierKey.parse(text, algorithm)
    except EvidenceError as error:
        raise ConfigError(f"{path}: {kind} {name}: {error.message}") from None
    return NoteSigner(name=name, key=key)


def compute(item: object, path: str) -> ComputeDemand:
    """Read [compute]: a bound on what a run can have computed, and the caps from which it is
    derived.
    """
    table = PolicyTable(item, path, "compute")
    at_most = _positive(table, path, "at-most")
    lineage = table.text("lineage", "")
    caps = _caps(table, path)
    table.done()
    if at_most is None:
        raise ConfigError(f"{path}: compute: at-most is missing")
    if lineage not in ("", "sum"):
        raise ConfigError(f"{path}: compute: lineage is {lineage[:80]!r}, not sum")
    return ComputeDemand(at_most=at_most, lineage=bool(lineage), caps=caps)


def _caps(table: PolicyTable, path: str) -> Caps:
    """Return the built-in caps, perhaps with a later review, or all of the file's own."""
    processor, accelerator = (_positive(table, path, key) for key in ("processor", "accelerator"))
    text = table.text("reviewed", "")
    reviewed = day(text) if text else None
    if text and reviewed is None:
        raise ConfigError(
            f"{path}: compute: reviewed is {text[:80]!r}, not a date such as {CAPS.reviewed}"
        )
    if processor is None and accelerator is None:
        return Caps(
            processor=CAPS.processor,
            accelerator=CAPS.accelerator,
            reviewed=reviewed or CAPS.reviewed,
        )
    if processor is None or accelerator is None or reviewed is None:
        raise ConfigError(f"{path}: compute: caps need processor, accelerator and reviewed")
    return Caps(processor=processor, accelerator=accelerator, reviewed=reviewed)


def _positive(table: PolicyTable, path: str, key: str) -> float | None:
    number = table.number(key)
    if number is not None and not 0 < number < math.inf:
        raise ConfigError(f"{path}: compute: {key} is {number}, but must be above 0 and finite")
    return number


def day(text: str) -> date | None:
    """Parse a date in its only form; None if the text is not one."""
    try:
        read = date.fromisoformat(text)
    except ValueError:
        return None
    return read if read.isoformat() == text else None
