"""Version 2 of the results of an evaluation: metrics of tasks, each task named by its digest.

A task's digest covers everything that decides prompts and scores except the model: definition,
rows, few-shot examples, seed, limit and chat template (docs/spec/lm-eval.md). Its name is only its
builder's word, unless the digest is that of a task of the image (`known_tasks`).
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import evaluation, known_tasks
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.evaluation import MAX_BYTES, WHAT, Read, Results, Weights
from aicert.formats.known_tasks import KnownTask
from aicert.formats.run_report_facts import MAX_RECORDS
from aicert.formats.strict_json import Fields, dumps, loads
from aicert.frozen import dataclass

VERSION: Final = 2
MAX_TASKS: Final = 32
MAX_METRICS: Final = 32
MOST_SHOTS: Final = 256
MOST_IN_BATCH: Final = 1024
# Names of tasks; and of filters, which policies name.
LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FILTER: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
NO_FILTER: Final = "none"
# With which few-shot examples are drawn if a config names no other: the harness's own default.
SEED: Final = 1234
# For each output type the metrics that are computed, and the highest value of each: 1 for shares of
# rows, of which more is better. Of the others, less is better.
HIGHEST: Final = {
    "generate_until": {"exact_match": 1.0},
    "loglikelihood": {"acc": 1.0, "perplexity": math.inf},
    "loglikelihood_rolling": {
        "bits_per_byte": math.inf,
        "byte_perplexity": math.inf,
        "word_perplexity": math.inf,
    },
    "multiple_choice": {"acc": 1.0, "acc_bytes": 1.0, "acc_norm": 1.0},
}
KINDS: Final = tuple(HIGHEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric over the samples; `filter`: what text it is computed on ("none": all of it).

    `stderr`: the standard error of a mean, None for other metrics and for a single sample.
    """

    name: str
    filter: str
    value: float
    stderr: float | None

    @property
    def key(self) -> str:
        """How policies name it, and the harness itself: with the filter, if there is one."""
        return self.name if self.filter == NO_FILTER else f"{self.name},{self.filter}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one task measured. `rows` and `examples` name the splits that it read: input, split.

    `samples`: how many rows were evaluated, the first ones. `name`: the builder's.
    """

    name: str
    digest: Digest
    kind: str
    rows: tuple[str, str]
    examples: tuple[str, str] | None
    shots: int
    samples: int
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResults:
    """The results of one evaluation on tasks. `limit`: at most so many rows of each, or None.

    `config`: SHA-256 of the effective config.
    """

    base: Weights
    adapter: Weights | None
    config: Digest
    data: tuple[Read, ...]
    tasks: tuple[Task, ...]
    limit: int | None
    seed: int
    batch_size: int
    chat_template: bool

    @property
    def subject(self) -> Weights:
        """The weights that the results are about: the adapter, where there is one."""
        return self.adapter or self.base


def task_digest(
    definition: object,
    *,
    rows: Digest,
    examples: Digest | None,
    limit: int | None,
    seed: int,
    chat_template: bool,
) -> Digest:
    """Return the digest that names a task, over everything that decides it except the model."""
    return of_bytes(
        dumps(
            {
                "chatTemplate": chat_template,
                "definition": definition,
                "examples": None if examples is None else str(examples),
                "limit": limit,
                "rows": str(rows),
                "seed": seed,
            }
        )
    )


def known_digest(
    task: KnownTask, *, limit: int | None = None, seed: int = SEED, chat_template: bool = False
) -> Digest:
    """Return the digest of a task of the image, as a whole if nothing else is given."""
    return task_digest(
        task.definition,
        rows=task.rows.digest,
        examples=None,
        limit=limit,
        seed=seed,
        chat_template=chat_template,
    )


# The tasks of the image by the digest that each has as a whole.
BY_DIGEST: Final[Mapping[Digest, KnownTask]] = {
    known_digest(task): task for task in known_tasks.KNOWN
}


def known(results: TaskResults, task: Task) -> KnownTask | None:
    """Return the task of the image that was asked, maybe with another limit, seed or template."""
    asked = (
        one
        for one in known_tasks.KNOWN
        if task.digest
        == known_digest(
            one, limit=results.limit, seed=results.seed, chat_template=results.chat_template
        )
    )
    return next(asked, None)


def emit(results: TaskResults) -> bytes:
    """Return the canonical bytes, with a line end."""
    document: dict[str, object] = {
        "about": evaluation.about_json(results.base, results.adapter),
        "batchSize": results.batch_size,
        "chatTemplate": results.chat_template,
        "config": str(results.config),
        "data": [evaluation.read_json(read) for read in results.data],
        "seed": results.seed,
        "tasks": [_task_json(task) for task in results.tasks],
        "version": VERSION,
    }
    if results.limit is not None:
        document["limit"] = results.limit
    return dumps(document) + b"\n"


def parse(data: bytes) -> TaskResults:
    """Read exactly what `emit` writes; raises EvidenceError for anything else."""
    fields = Fields(loads(data, what=WHAT, max_bytes=MAX_BYTES), WHAT)
    fields.const("version", VERSION)
    base, adapter = evaluation.read_about(fields)
    results = TaskResults(
        base=base,
        adapter=adapter,
        config=evaluation.read_digest(fields, "config"),
        data=fields.items("data", evaluation.read_data, max_items=MAX_RECORDS),
        tasks=fields.items("tasks", _read_task, max_items=MAX_TASKS),
        limit=fields.integer("limit", low=1) if fields.has("limit") else None,
        seed=fields.integer("seed"),
        batch_size=fields.integer("batchSize", low=1, high=MOST_IN_BATCH),
        chat_template=fields.boolean("chatTemplate"),
    )
    fields.done()
    check(results)
    if emit(results) != data:
        raise EvidenceError(f"{WHAT} are not in canonical form")
    return results


def check(results: TaskResults) -> None:
    """Raise EvidenceError if the numbers contradict each other."""
    evaluation.check_order(results.data)
    reads = {(read.name, read.split): read for read in results.data}
    if not results.tasks:
        raise EvidenceError(f"{WHAT} have no tasks")
    names = [task.name for task in results.tasks]
    if len(set(names)) < len(names):
        raise EvidenceError(f"{WHAT}.tasks: a name is given twice")
    used = {place for task in results.tasks for place in (task.rows, task.examples) if place}
    if used != reads.keys():
        raise EvidenceError(f"{WHAT}: the tasks do not read exactly the rows of `data`")
    for task in results.tasks:
        read = reads[task.rows]
        if task.samples != min(results.limit or read.rows, read.rows):
            raise EvidenceError(f"{WHAT} do not account for each row of task {task.name}")
        _check_metrics(task)
        own = known(results, task)
        if own is not None:
            _check_known(own, task, read)


def _check_metrics(task: Task) -> None:
    keys = [(metric.name, metric.filter) for metric in task.metrics]
    if not keys or keys != sorted(set(keys)):
        raise EvidenceError(f"{WHAT}: metrics of task {task.name} are out of order, or none")
    highest = HIGHEST[task.kind]
    for metric in task.metrics:
        most = highest.get(metric.name)
        if most is None or not 0 <= metric.value <= most:
            raise EvidenceError(f"{WHAT}: {metric.name} of task {task.name} cannot be")
        has_error = most == 1 and task.samples > 1
        if (metric.stderr is not None) != has_error or not 0 <= (metric.stderr or 0) <= 1:
            raise EvidenceError(f"{WHAT}: the error of {metric.name} of task {task.name} cannot be")


def _check_known(own: KnownTask, task: Task, read: Read) -> None:
    """Require what follows from the digest. The rows may be an input, under another name."""
    rows = own.rows
    measures = tuple((metric.name, metric.filter) for metric in task.metrics)
    if (
        (read.digest, read.rows, read.bytes) != (rows.digest, rows.rows, rows.bytes)
        or (task.kind, measures) != (own.kind, own.measures)
        or task.shots
        or task.examples is not None
    ):
        raise EvidenceError(
            f"{WHAT}: task {task.name} has the digest of the image's {own.name}, but other rows, "
            "examples or metrics"
        )


def _task_json(task: Task) -> dict[str, object]:
    document: dict[str, object] = {
        "digest": str(task.digest),
        "fewShot": task.shots,
        "kind": task.kind,
        "metrics": [_metric_json(metric) for metric in task.metrics],
        "name": task.name,
        "rows": _place_json(task.rows),
        "samples": task.samples,
    }
    if task.examples is not None:
        document["examples"] = _place_json(task.examples)
    return document


def _metric_json(metric: Metric) -> dict[str, object]:
    error = {} if metric.stderr is None else {"stderr": metric.stderr}
    return {"filter": metric.filter, "name": metric.name, "value": metric.value, **error}


def _place_json(place: tuple[str, str]) -> dict[str, object]:
    return {"name": place[0], "split": place[1]}


def _read_task(value: object, where: str) -> Task:
    fields = Fields(value, where)
    kind = fields.text("kind", max_length=64)
    if kind not in KINDS:
        raise EvidenceError(f"{where}.kind is not known: {kind!a}")
    task = Task(
        name=_label(fields, "name"),
        digest=evaluation.read_digest(fields, "digest"),
        kind=kind,
        rows=_read_place(fields.fields("rows")),
        examples=_read_place(fields.fields("examples")) if fields.has("examples") else None,
        shots=fields.integer("fewShot", high=MOST_SHOTS),
        samples=fields.integer("samples", low=1),
        metrics=fields.items("metrics", read_metric, max_items=MAX_METRICS),
    )
    fields.done()
    return task


def _read_place(fields: Fields) -> tuple[str, str]:
    place = evaluation.read_name(fields, "name"), fields.text("split", max_length=64)
    fields.done()
    return place


def read_metric(value: object, where: str) -> Metric:
    """Read one metric, as results and the program that evaluates write it."""
    fields = Fields(value, where)
    metric = Metric(
        name=_label(fields, "name"),
        filter=_label(fields, "filter", FILTER),
        value=float(fields.number("value")),
        stderr=float(fields.number("stderr")) if fields.has("stderr") else None,
    )
    fields.done()
    return metric


def _label(fields: Fields, key: str, form: re.Pattern[str] = LABEL) -> str:
    text = fields.text(key, max_length=64)
    if not form.fullmatch(text):
        raise EvidenceError(f"{fields.where}.{key} is not a name: {text!a}")
    return text


# What an evaluation by any trainer gives.
Evaluated = Results | TaskResults
# The trainers that evaluate, and the form of each one's results.
_FORMS: Final[Mapping[str, Callable[[bytes], Evaluated]]] = {
    "axolotl-evaluate": evaluation.parse,
    "lm-eval": parse,
}


def read(trainer: str, data: bytes) -> Evaluated:
    """Read the results of an evaluation by this trainer. Raises EvidenceError."""
    if trainer not in _FORMS:
        raise EvidenceError(f"trainer {trainer} does not evaluate")
    return _FORMS[trainer](data)
