"""Attacks on demanded evaluations by lm-eval, whose results have tasks; and odd ones that pass.

The scene is a training; the evaluation beside it is about the digest of the training's output.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aicert.appraisal.evidence.accepted import EvaluationDemand
from aicert.formats import evaluated_tasks, evaluation, known_tasks
from aicert.formats.digest import Digest
from aicert.formats.evaluated_tasks import (
    Metric,
    Task,
    TaskResults,
    known_digest,
    task_digest,
)
from aicert.formats.evaluation import Weights
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_audits import Given
from tests.adversarial.attacks_evaluations import (
    LOSS,
    OF_MODEL,
    OTHER,
    OTHER_ROWS,
    OUTPUT,
    PRESENT,
    RESULT,
    ROWS,
    SUBSET,
    evaluated,
    given,
    measured,
)
from tests.adversarial.attacks_results import evaluate, named, trainer
from tests.adversarial.attacks_run import reported, value
from tests.adversarial.forger import Scene

Change = Callable[[Scene], object]
RECORDS = "inputs.records"
PLACE = (ROWS.name, ROWS.split)
DEFINITION = {"doc_to_text": "{{question}}", "num_fewshot": 2, "output_type": "multiple_choice"}
ACC = Metric(name="acc", filter="none", value=0.6, stderr=0.0625)


def digest_of(rows: Any = ROWS, *, shots: int = 2, limit: int | None = None) -> Digest:
    """Return the digest of the task over these rows."""
    return task_digest(
        DEFINITION | {"num_fewshot": shots}, rows=rows.digest, examples=None, limit=limit,
        seed=1234, chat_template=False,
    )  # fmt: skip


def task(own: Any = ROWS, shots: int = 2, limit: int | None = None, **changes: Any) -> Task:
    """Return what the task measured: three of five questions answered. `own`: its rows."""
    whole = Task(
        name="local_mc", digest=digest_of(own, shots=shots, limit=limit), kind="multiple_choice",
        rows=PLACE, examples=None, shots=shots, samples=min(limit or own.rows, own.rows),
        metrics=(ACC,),
    )  # fmt: skip
    return replace(whole, **changes)


def results(*tasks: Task, rows: Any = ROWS, **changes: Any) -> TaskResults:
    whole = TaskResults(
        base=OF_MODEL, adapter=None, config=Digest("sha256", "d1" * 32),
        data=evaluation.reads([rows]), tasks=tasks or (task(rows),), limit=None, seed=1234,
        batch_size=1, chat_template=False,
    )  # fmt: skip
    return replace(whole, **changes)


def on_tasks(
    what: TaskResults | None = None,
    *changes: Change,
    rows: Any = ROWS,
    by: str = "lm-eval",
    edit: Callable[[dict[str, Any]], object] | None = None,
    data: bytes | None = None,
    inputs: dict[str, Digest] | None = None,
) -> Given:
    """Return the certificate of an evaluation on tasks, and the results that are given with it.

    `edit`: changes the document that certificate and results both name. `data`: what is given
    instead.
    """
    written = evaluated_tasks.emit(results(rows=rows) if what is None else what)
    if edit is not None:
        document = json.loads(written)
        edit(document)
        written = json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return evaluated(
        None, trainer(by), *changes, rows=rows, inside=written, inputs=inputs,
        data=written if data is None else data,
    )  # fmt: skip


DEMAND = EvaluationDemand(task=digest_of(), metric="acc", samples=60, at_least=0.6)


def asked(*evidence: Callable[[], Given], **changes: Any) -> Change:
    return given(*evidence, demands=[replace(DEMAND, **changes)])


def forged(edit: Callable[[dict[str, Any]], object]) -> Change:
    """Give results that nobody's machine writes, named by a certificate."""
    return asked(lambda: on_tasks(edit=edit))


def in_task(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["tasks"][0].update(changes)


def in_metric(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["tasks"][0]["metrics"][0].update(changes)


# A task that the image carries, and its rows as the builder's own input.
ADDITION = known_tasks.KNOWN[0]
COPIED = replace(ADDITION.rows, name=ROWS.name, split=ROWS.split, files=ROWS.files)


def addition(limit: int | None = None, rows: Any = ADDITION.rows, **changes: Any) -> TaskResults:
    """Return results on that task."""
    own = task(
        rows, 0, limit, name=ADDITION.name, digest=known_digest(ADDITION, limit=limit),
        rows=(rows.name, rows.split),
    )  # fmt: skip
    return results(replace(own, **changes), rows=rows, limit=limit)


def known(what: TaskResults | None = None, rows: Any = ADDITION.rows, **changes: Any) -> Change:
    """Demand that task of the model, and give an evaluation."""
    wanted = {"task": known_digest(ADDITION), "samples": 1, **changes}
    given = addition() if what is None else what
    return asked(lambda: on_tasks(given, rows=rows), **wanted)


def itself(*records: Any, by: str = "lm-eval") -> Change:
    """Turn the scene into an evaluation by this trainer that read these rows."""
    return evaluate(trainer(by), reported(records=records))


def row(name: str, check: str, change: Change) -> Attack:
    return Attack(name, check, change, version=2)


LIMITED = task(limit=10)
ATTACKS = (
    row("tasks of another model", PRESENT, asked(
        lambda: on_tasks(results(base=replace(OF_MODEL, digest=OTHER)), inputs={"model": OTHER}))),
    row("tasks of a base with another adapter", PRESENT, asked(
        lambda: on_tasks(
            results(adapter=Weights(input="adapter", digest=OTHER, inside="")),
            value("adapterInput", named("adapter")),
            inputs={"adapter": OTHER, "model": OUTPUT}))),
    row("task on other rows", PRESENT, asked(lambda: on_tasks(rows=OTHER_ROWS))),
    row("task on rows that the builder chose", PRESENT, asked(
        lambda: on_tasks(rows=SUBSET), samples=1)),
    row("task on the first rows alone", PRESENT, asked(
        lambda: on_tasks(results(LIMITED, limit=10)), samples=1)),
    row("task with another number of examples", PRESENT, asked(
        lambda: on_tasks(results(task(shots=5))))),
    row("task of that name but another definition", PRESENT, asked(
        lambda: on_tasks(results(task(digest=Digest("sha256", "e1" * 32)))))),
    row("task without the metric that is demanded", PRESENT, asked(on_tasks, metric="acc_norm")),
    row("metric on filtered text in place of all text", PRESENT, asked(
        lambda: on_tasks(results(task(metrics=(replace(ACC, filter="easy"),)))))),
    row("own task under the name of one of the image", PRESENT, known(
        results(task(name=ADDITION.name)), ROWS)),
    row("task of the image on its first rows alone", PRESENT, known(addition(20))),
    row("task of the image with another seed", PRESENT, known(
        replace(addition(digest=known_digest(ADDITION, seed=7)), seed=7))),
    row("digest of a task of the image on other rows", PRESENT, known(
        addition(rows=ROWS), ROWS)),
    row("digest of a task of the image with examples", PRESENT, known(addition(shots=2))),
    row("digest of a task of the image with another metric", PRESENT, known(
        addition(metrics=(replace(ACC, name="acc_norm"),)), metric="acc_norm")),
    row("rows of the image in a training", RECORDS, reported(records=(ADDITION.rows,))),
    row("rows of the image in an evaluation by loss", RECORDS, itself(
        ADDITION.rows, by="axolotl-evaluate")),
    row("other rows in the name of the image", RECORDS, itself(
        replace(ADDITION.rows, digest=ROWS.digest))),
    row("rows of the image, counted twice", RECORDS, itself(ADDITION.rows, ADDITION.rows)),
    row("results of tasks by a trainer that has none", PRESENT, asked(
        lambda: on_tasks(by="axolotl-evaluate"))),
    row("loss by a trainer that measures none", PRESENT, asked(
        lambda: evaluated(measured(), trainer("lm-eval")))),
    row("tasks by a trainer that nobody knows", PRESENT, asked(lambda: on_tasks(by="lm-evil"))),
    row("tasks of an evaluation that failed", PRESENT, asked(
        lambda: on_tasks(None, reported(exit_code="1")))),
    row("results of tasks that the certificate does not name", PRESENT, asked(
        lambda: on_tasks(results(task(metrics=(replace(ACC, value=0.2),))),
                         data=evaluated_tasks.emit(results())))),
    row("tasks on rows that the run did not read", PRESENT, asked(
        lambda: on_tasks(None, reported(records=(OTHER_ROWS,))))),
    row("limit that the results hide", PRESENT, forged(in_task(samples=10))),
    row("more samples than rows", PRESENT, forged(in_task(samples=61))),
    row("limit without fewer samples", PRESENT, forged(
        lambda document: document.update(limit=10))),
    row("results without tasks", PRESENT, forged(lambda document: document.update(tasks=[]))),
    row("results with a task twice", PRESENT, forged(
        lambda document: document.update(tasks=document["tasks"] * 2))),
    row("task of an unknown kind", PRESENT, forged(in_task(kind="guess"))),
    row("task without metrics", PRESENT, forged(in_task(metrics=[]))),
    row("task that reads what is not in the results", PRESENT, forged(
        in_task(rows={"name": "other", "split": "test"}))),
    row("more than every question answered", PRESENT, forged(in_metric(value=1.5))),
    row("share that is no number", PRESENT, forged(in_metric(value=float("nan")))),
    row("share that is a text", PRESENT, forged(in_metric(value="0.9"))),
    row("metric that the kind of task does not have", PRESENT, forged(
        in_metric(name="word_perplexity"))),
    row("share without its error", PRESENT, forged(
        lambda document: document["tasks"][0]["metrics"][0].pop("stderr"))),
    row("results of tasks with a key that nobody reads", PRESENT, forged(
        lambda document: document.update(harness="mine"))),
    row("fewer questions answered than a policy asks for", RESULT, asked(on_tasks, at_least=0.7)),
    row("fewer samples of a task than a policy asks for", RESULT, asked(on_tasks, samples=61)),
    row("second evaluation that answers fewer questions", RESULT, asked(
        on_tasks, lambda: on_tasks(results(task(metrics=(replace(ACC, value=0.4),)))))),
)  # fmt: skip
ADAPTER = Weights(input="adapter", digest=OUTPUT, inside="")
TWO: Sequence[Task] = (
    task(),
    task(
        name="text", digest=Digest("sha256", "e2" * 32), kind="generate_until",
        metrics=(replace(ACC, name="exact_match", filter="numbers"),),
    ),
    task(
        name="fit", digest=Digest("sha256", "e3" * 32), kind="loglikelihood_rolling", shots=0,
        metrics=(Metric(name="word_perplexity", filter="none", value=12.5, stderr=None),),
    ),
)  # fmt: skip
# Odd but right: name, change, version, verdict, and the first check that is left open.
RIGHT: tuple[tuple[str, Change, int, str, str | None], ...] = (
    ("evaluated on a task", asked(on_tasks), 2, "passed", None),
    ("evaluated on the first rows of a task", asked(
        lambda: on_tasks(results(LIMITED, limit=10)), task=LIMITED.digest, samples=10), 2, "passed",
     None),
    ("evaluated on three kinds of tasks", asked(
        lambda: on_tasks(results(*TWO)), task=TWO[1].digest, metric="exact_match,numbers"), 2,
     "passed", None),
    ("evaluated on a task of the image", known(samples=120), 2, "passed", None),
    ("evaluated on a task of the image that an input has", known(
        addition(rows=COPIED), COPIED, samples=120), 2, "passed", None),
    ("evaluated on the first rows of a task of the image", known(
        addition(20), task=known_digest(ADDITION, limit=20)), 2, "passed", None),
    ("evaluation on rows of the image alone", itself(ADDITION.rows), 2, "passed", None),
    ("evaluated for perplexity", asked(
        lambda: on_tasks(results(*TWO)), task=TWO[2].digest, metric="word_perplexity",
        at_least=None, at_most=13.0), 2, "passed", None),
    ("evaluated on a task and by its loss", given(
        evaluated, on_tasks, demands=[DEMAND, LOSS]), 2, "passed", None),
)  # fmt: skip
