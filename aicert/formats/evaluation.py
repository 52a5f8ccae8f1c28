"""The results of an evaluation: canonical JSON, joined to a model by the digests of what was read.

`about` names the weights by their inputs, `data` the rows in the form of a run report's `records`.
A task is known only to its builder, so it is identified by the digests of the config that the
machine ran and of the rows (docs/spec/evaluation.md).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.formats.lockfile import NAME
from aicert.formats.paths import check_path
from aicert.formats.run_report_facts import MAX_RECORDS, Records
from aicert.formats.strict_json import Fields, dumps, loads
from aicert.frozen import dataclass

VERSION: Final = 1
WHAT: Final = "evaluation results"
MAX_BYTES: Final = 1 << 16
# A token's loss counts at most this much, in nats.
MOST_LOSS: Final = 100.0
LONGEST_SEQUENCE: Final = 1 << 24
_LONGEST_SPLIT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model or an adapter: its input, the digest of that, and the folder in it ("": all)."""

    input: str
    digest: Digest
    inside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The rows that were read from one split of one input, as run reports name them."""

    name: str
    split: str
    rows: int
    bytes: int
    digest: Digest
    unread_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The results of one evaluation. `loss`: the mean in nats over `tokens`, the tokens of `rows`.

    `left_out`: rows that were read and do not count, since they have no token to predict or are too
    long. `template_tokens`: how many of `tokens` come from no row. `config`: SHA-256 of the
    effective config.
    """

    base: Weights
    adapter: Weights | None
    config: Digest
    data: tuple[Read, ...]
    loss: float
    rows: int
    left_out: int
    tokens: int
    template_tokens: int
    seed: int
    sequence_length: int

    @property
    def perplexity(self) -> float:
        """The perplexity, which follows from the loss."""
        return math.exp(self.loss)

    @property
    def subject(self) -> Weights:
        """The weights that the results are about: the adapter, where there is one."""
        return self.adapter or self.base


def reads(records: Iterable[Records]) -> tuple[Read, ...]:
    """Return what a run report says about the rows, sorted by name and split."""
    return tuple(
        sorted(
            (
                Read(
                    name=each.name,
                    split=each.split,
                    rows=each.rows,
                    bytes=each.bytes,
                    digest=each.digest,
                    unread_bytes=each.unread_bytes,
                )
                for each in records
            ),
            key=lambda read: (read.name, read.split),
        )
    )


class Joined(Protocol):
    """What all results of evaluations name: weights and rows."""

    @property
    def base(self) -> Weights: ...

    @property
    def adapter(self) -> Weights | None: ...

    @property
    def data(self) -> tuple[Read, ...]: ...


def check_joined(results: Joined, records: Iterable[Records], inputs: Mapping[str, Digest]) -> None:
    """Raise EvidenceError unless the results are about inputs and rows of this run.

    `records`: those of its run report; `inputs`: the digests of its lockfile's inputs by name.
    """
    for weights in (results.base, results.adapter):
        if weights is not None and inputs.get(weights.input) != weights.digest:
            raise EvidenceError(f"the {WHAT} are about {weights.input}, which is no input")
    if results.data != reads(records):
        raise EvidenceError(f"the {WHAT} and the run report differ about the rows")


def emit(results: Results) -> bytes:
    """Return the canonical bytes, with a line end."""
    document = {
        "about": about_json(results.base, results.adapter),
        "config": str(results.config),
        "data": [read_json(read) for read in results.data],
        "leftOut": results.left_out,
        "loss": results.loss,
        "rows": results.rows,
        "seed": results.seed,
        "sequenceLength": results.sequence_length,
        "templateTokens": results.template_tokens,
        "tokens": results.tokens,
        "version": VERSION,
    }
    return dumps(document) + b"\n"


def parse(data: bytes) -> Results:
    """Read exactly what `emit` writes; raises EvidenceError for anything else."""
    fields = Fields(loads(data, what=WHAT, max_bytes=MAX_BYTES), WHAT)
    fields.const("version", VERSION)
    base, adapter = read_about(fields)
    results = Results(
        base=base,
        adapter=adapter,
        config=read_digest(fields, "config"),
        data=fields.items("data", read_data, max_items=MAX_RECORDS),
        loss=float(fields.number("loss")),
        rows=fields.integer("rows", low=1),
        left_out=fields.integer("leftOut"),
        tokens=fields.integer("tokens", low=1),
        template_tokens=fields.integer("templateTokens"),
        seed=fields.integer("seed"),
        sequence_length=fields.integer("sequenceLength", low=1, high=LONGEST_SEQUENCE),
    )
    fields.done()
    check(results)
    if emit(results) != data:
        raise EvidenceError(f"{WHAT} are not in canonical form")
    return results


def check(results: Results) -> None:
    """Raise EvidenceError if the numbers contradict each other."""
    if not 0 <= results.loss <= MOST_LOSS:
        raise EvidenceError(f"{WHAT}.loss is not between 0 and {MOST_LOSS:.0f}")
    if results.template_tokens > results.tokens:
        raise EvidenceError(f"{WHAT} have more tokens of templates than tokens")
    if results.rows + results.left_out != sum(read.rows for read in results.data):
        raise EvidenceError(f"{WHAT} do not account for each row that was read")
    check_order(results.data)


def check_order(data: Iterable[Read]) -> None:
    """Raise EvidenceError unless the rows are named once and in order."""
    names = [(read.name, read.split) for read in data]
    if names != sorted(set(names)):
        raise EvidenceError(f"{WHAT}.data: a name is given twice or out of order")


def about_json(base: Weights, adapter: Weights | None) -> dict[str, object]:
    """Return the JSON of the weights that results are about."""
    about: dict[str, object] = {"base": _weights_json(base)}
    return about if adapter is None else {**about, "adapter": _weights_json(adapter)}


def read_about(fields: Fields) -> tuple[Weights, Weights | None]:
    """Return the weights that results are about, the adapter last."""
    about = fields.fields("about")
    base = _read_weights(about.fields("base"))
    adapter = _read_weights(about.fields("adapter")) if about.has("adapter") else None
    about.done()
    return base, adapter


def _weights_json(weights: Weights) -> dict[str, object]:
    document: dict[str, object] = {"digest": str(weights.digest), "input": weights.input}
    if weights.inside:
        document["inside"] = weights.inside
    return document


def _read_weights(fields: Fields) -> Weights:
    inside = fields.text("inside") if fields.has("inside") else None
    if inside is not None:
        check_path(inside)
    weights = Weights(
        input=read_name(fields, "input"), digest=read_digest(fields, "digest"), inside=inside or ""
    )
    fields.done()
    return weights


def read_json(read: Read) -> dict[str, object]:
    """Return the JSON of the rows that were read from one split."""
    return {
        "bytes": read.bytes,
        "digest": str(read.digest),
        "name": read.name,
        "rows": read.rows,
        "split": read.split,
        "unreadBytes": read.unread_bytes,
    }


def read_data(value: object, where: str) -> Read:
    """Read what `read_json` writes."""
    fields = Fields(value, where)
    read = Read(
        name=read_name(fields, "name"),
        split=fields.text("split", max_length=_LONGEST_SPLIT),
        rows=fields.integer("rows", low=1),
        bytes=fields.integer("bytes"),
        digest=read_digest(fields, "digest"),
        unread_bytes=fields.integer("unreadBytes"),
    )
    fields.done()
    return read


def read_digest(fields: Fields, key: str) -> Digest:
    """Read a digest."""
    return Digest.parse(fields.text(key, max_length=80))


def read_name(fields: Fields, key: str) -> str:
    """Read the name of an input."""
    name = fields.text(key, max_length=64)
    if not NAME.fullmatch(name):
        raise EvidenceError(f"{fields.where}.{key} is not a name: {name!a}")
    return name
