"""What version 2 of the run report adds: what training read, and what was measured about it.

`records`, `loss`, `texts` and `removed`; `run_report` reads and writes the report that holds them
(docs/spec/run-report.md). Everything is bounded here; the appraisal decides what it must agree
with.
"""

import re
from typing import Literal, cast

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.formats.lockfile import NAME
from aicert.formats.paths import check_paths
from aicert.formats.strict_json import Fields, string
from aicert.frozen import dataclass

# A config names few data sets; one in shards has a hundred files or so, the largest some thousands.
# The machine refuses more before it trains.
MAX_RECORDS = 64
MAX_RECORD_FILES = 4096
MAX_TEXTS = 64
# The beginning of the name that stands for all texts beyond MAX_TEXTS. Its digest covers their
# names and digests, so that it shows nothing of what they say.
MORE_TEXTS = "~ "
MAX_REMOVED = 256
MAX_REASON = 400
MAX_SPLIT = 64
MAX_TEXT_NAME = 200

# The keys of the values that are counted in the trainer's process.
COUNTED_EPOCHS, COUNTED_ROWS = "countedEpochs", "countedRows"
COUNTED_SET, COUNTED_STEPS = "trainingRows", "countedSteps"
COUNTED = (COUNTED_EPOCHS, COUNTED_ROWS, COUNTED_SET, COUNTED_STEPS)
LossState = Literal["measured", "no-loss", "incomplete"]
LOSS_STATES = ("measured", "no-loss", "incomplete")
# Splits and names of texts are shown in tables: printable ASCII, no look-alikes.
_SPLIT = re.compile(rf"[!-~]{{1,{MAX_SPLIT}}}")
TEXT_NAME = re.compile(rf"[!-~](?:[ -~]{{0,{MAX_TEXT_NAME - 2}}}[!-~])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Rows that training read from one selection of files of the input `name`.

    `bytes` and `digest` (SHA-256) are of the canonical rows (docs/spec/records.md). `unread_bytes`:
    bytes of the files that are in no row. `files`: paths in the input, in the order in which they
    were read; none if the input is itself one file.
    """

    name: str
    split: str
    rows: int
    bytes: int
    digest: Digest
    unread_bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How well base and output fit a sample of the rows: mean loss per token `before` and `after`.

    `state`: `measured`; `no-loss` if this kind of training has none; `incomplete` if it could not
    be measured. For the last two, `reason` says why, and there are no numbers `before` and `after`.
    `comparable`: whether the trainer's own losses are of the same kind. `tokens`: how many tokens
    the sample's `rows` have; `template_tokens`: how many of those come from templates and from no
    row.
    """

    state: LossState
    reason: str = ""
    before: float | None = None
    after: float | None = None
    comparable: bool = False
    rows: int = 0
    tokens: int = 0
    template_tokens: int = 0

    @property
    def template_share(self) -> float | None:
        """The share of tokens that come from no row; None if no tokens were counted."""
        return self.template_tokens / self.tokens if self.tokens else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What version 2 of the report adds.

    `texts`: text that comes from no row, name → SHA-256, sorted by name. `audits`: the audits made
    before the run, with the digests of their results; the report has them elsewhere.
    """

    records: tuple[Records, ...] = ()
    loss: Loss | None = None
    texts: tuple[tuple[str, Digest], ...] = ()
    removed: tuple[str, ...] = ()
    audits: tuple[tuple[str, Digest | None], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRows:
    """Rows that the image's code counted in the trainer's process.

    `rows` reached the model in `steps`; the trainer had made `of` rows from the data. `epochs`: how
    many times the rows cover those, rounded down.
    """

    epochs: float
    rows: int
    of: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeFacts:
    """What a run could compute on: processors and accelerators that the machine counted, and the
    inputs whose weights its trainer saw. Each is None if the machine does not say.

    `counted`: its rows as counted in the trainer's process; None if they were not counted, or if an
    input's code may have run there. `flops` and `epochs` are the trainer's own counts, which nobody
    has to believe.
    """

    processors: int | None = None
    accelerators: int | None = None
    weight_inputs: tuple[str, ...] | None = None
    counted: CountedRows | None = None
    flops: float | None = None
    epochs: float | None = None


NO_FACTS = Facts()


def plain(facts: Facts) -> dict[str, object]:
    """Return `records`, `loss`, `texts` and `removed` as JSON-ready values."""
    return {
        "records": [_records_json(records) for records in facts.records],
        "loss": None if facts.loss is None else _loss_json(facts.loss),
        "texts": {name: str(digest) for name, digest in facts.texts},
        "removed": list(facts.removed),
    }


def to_json(facts: Facts) -> dict[str, object]:
    """Return these keys of the report's JSON, each value with its origin."""
    return {
        key: {"origin": "derived" if key == "records" else "measured", "value": value}
        for key, value in plain(facts).items()
        if value is not None
    }


def read(report: Fields) -> Facts:
    """Take these keys from a report; raises EvidenceError."""
    derived, left_out = report.fields("records"), report.fields("removed")
    derived.const("origin", "derived")
    left_out.const("origin", "measured")
    facts = Facts(
        records=_read_all_records(derived),
        loss=_read_loss(report.fields("loss")) if report.has("loss") else None,
        texts=_read_texts(report.fields("texts")),
        removed=left_out.items("value", string, max_items=MAX_REMOVED),
    )
    derived.done()
    left_out.done()
    return facts


def _records_json(records: Records) -> dict[str, object]:
    return {
        "bytes": records.bytes,
        "digest": str(records.digest),
        "files": list(records.files),
        "name": records.name,
        "rows": records.rows,
        "split": records.split,
        "unreadBytes": records.unread_bytes,
    }


def _read_all_records(fields: Fields) -> tuple[Records, ...]:
    records = fields.items("value", _read_records, max_items=MAX_RECORDS)
    if sum(len(item.files) for item in records) > MAX_RECORD_FILES:
        raise EvidenceError(f"{fields.where} names more than {MAX_RECORD_FILES} files")
    return records


def _read_records(value: object, where: str) -> Records:
    fields = Fields(value, where)
    records = Records(
        name=_name(fields, "name", NAME),
        split=_name(fields, "split", _SPLIT),
        rows=fields.integer("rows"),
        bytes=fields.integer("bytes"),
        digest=_sha256(fields.text("digest", max_length=80), where),
        unread_bytes=fields.integer("unreadBytes"),
        files=fields.items("files", string, max_items=MAX_RECORD_FILES),
    )
    fields.done()
    check_paths(records.files)
    return records


def _loss_json(loss: Loss) -> dict[str, object]:
    document: dict[str, object] = {
        "comparable": loss.comparable,
        "reason": loss.reason,
        "rows": loss.rows,
        "state": loss.state,
        "templateTokens": loss.template_tokens,
        "tokens": loss.tokens,
    }
    numbers = {"before": loss.before, "after": loss.after}
    return document | {key: value for key, value in numbers.items() if value is not None}


def _read_loss(fields: Fields) -> Loss:
    fields.const("origin", "measured")
    value = fields.fields("value")
    fields.done()
    state = value.text("state", max_length=20)
    if state not in LOSS_STATES:
        raise EvidenceError(f"{value.where}.state is not one of {', '.join(LOSS_STATES)}")
    measured = state == "measured"
    loss = Loss(
        state=cast(LossState, state),
        reason=value.text("reason", max_length=MAX_REASON),
        before=value.number("before") if measured else None,
        after=value.number("after") if measured else None,
        comparable=value.boolean("comparable"),
        rows=value.integer("rows", low=int(measured)),
        tokens=value.integer("tokens", low=int(measured)),
        template_tokens=value.integer("templateTokens"),
    )
    value.done()
    if not measured and not loss.reason:
        raise EvidenceError(f"{value.where}.reason is empty")
    if loss.template_tokens > loss.tokens:
        raise EvidenceError(f"{value.where} has more templateTokens than tokens")
    return loss


def _read_texts(fields: Fields) -> tuple[tuple[str, Digest], ...]:
    fields.const("origin", "measured")
    value = fields.fields("value")
    fields.done()
    texts = value.rest()
    if len(texts) > MAX_TEXTS or not all(map(TEXT_NAME.fullmatch, texts)):
        raise EvidenceError(f"{value.where}: expected at most {MAX_TEXTS} names of printable ASCII")
    return tuple((name, _sha256(texts[name], value.where)) for name in sorted(texts))


def _name(fields: Fields, key: str, pattern: re.Pattern[str]) -> str:
    text = fields.text(key, max_length=64)
    if not pattern.fullmatch(text):
        raise EvidenceError(f"{fields.where}.{key} is not a name: {text!a}")
    return text


def _sha256(value: object, where: str) -> Digest:
    digest = Digest.parse(string(value, where))
    if digest.kind != "sha256":
        raise EvidenceError(f"{where}: expected a digest sha256:…")
    return digest
