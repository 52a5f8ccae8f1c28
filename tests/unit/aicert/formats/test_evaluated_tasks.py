"""Results of tasks: one form, and numbers that can be."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.formats import evaluated_tasks, evaluation, known_tasks
from aicert.formats.digest import Digest
from aicert.formats.evaluated_tasks import (
    Metric,
    Task,
    TaskResults,
    known,
    known_digest,
    task_digest,
)
from aicert.formats.evaluation import Read, Weights

DIGEST = Digest("sha256", "a" * 64)
ROWS = Read(name="rows", split="test", rows=60, bytes=900, digest=DIGEST, unread_bytes=0)
SHOTS = replace(ROWS, split="train", rows=4)
ACC = Metric(name="acc", filter="none", value=0.6, stderr=0.06)
TASK = Task(
    name="local_mc", digest=DIGEST, kind="multiple_choice", rows=("rows", "test"),
    examples=("rows", "train"), shots=2, samples=60, metrics=(ACC,),
)  # fmt: skip
RESULTS = TaskResults(
    base=Weights(input="model", digest=Digest("dirHash", "b" * 64), inside="last"),
    adapter=None, config=DIGEST, data=(ROWS, SHOTS), tasks=(TASK,), limit=None, seed=1234,
    batch_size=1, chat_template=False,
)  # fmt: skip


def with_task(**changes: Any) -> TaskResults:
    return replace(RESULTS, tasks=(replace(TASK, **changes),))


def with_metric(**changes: Any) -> TaskResults:
    return with_task(metrics=(replace(ACC, **changes),))


ADAPTER = Weights(input="adapter", digest=Digest("dirHash", "c" * 64), inside="")


@pytest.mark.parametrize(
    "results",
    [
        RESULTS,
        replace(RESULTS, adapter=ADAPTER, chat_template=True),
        replace(with_task(samples=7), limit=7),
        replace(RESULTS, limit=100),
        replace(with_task(examples=None, shots=0), data=(ROWS,)),
        replace(
            with_task(samples=1, metrics=(replace(ACC, stderr=None),)), data=(ROWS, SHOTS), limit=1
        ),
        with_task(
            kind="loglikelihood_rolling",
            metrics=(Metric(name="word_perplexity", filter="none", value=12.5, stderr=None),),
        ),
        with_task(
            kind="generate_until",
            metrics=tuple(replace(ACC, name="exact_match", filter=each) for each in ("a", "b")),
        ),
    ],
)
def test_results_are_read_as_they_are_written(results: TaskResults) -> None:
    data = evaluated_tasks.emit(results)
    assert evaluated_tasks.parse(data) == results
    assert results.subject == (results.adapter or results.base)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (replace(RESULTS, tasks=()), "have no tasks"),
        (replace(RESULTS, tasks=(TASK, TASK)), "a name is given twice"),
        (replace(RESULTS, data=(SHOTS, ROWS)), "out of order"),
        (replace(RESULTS, data=(ROWS,)), "do not read exactly the rows"),
        (with_task(examples=None), "do not read exactly the rows"),
        (with_task(samples=59), "do not account for each row of task local_mc"),
        (replace(RESULTS, limit=7), "do not account for each row"),
        (replace(with_task(samples=61), limit=61), "do not account for each row"),
        (with_task(metrics=()), "out of order, or none"),
        (with_task(metrics=(ACC, ACC)), "out of order, or none"),
        (with_task(metrics=(replace(ACC, name="acc_norm"), ACC)), "out of order, or none"),
        (with_metric(value=1.01), "acc of task local_mc cannot be"),
        (with_metric(name="word_perplexity"), "word_perplexity of task local_mc cannot be"),
        (with_metric(stderr=None), "the error of acc of task local_mc cannot be"),
        (with_metric(stderr=1.5), "the error of acc of task local_mc cannot be"),
        (
            with_task(
                kind="loglikelihood",
                metrics=(Metric(name="perplexity", filter="none", value=3.0, stderr=0.1),),
            ),
            "the error of perplexity",
        ),
    ],
)
def test_numbers_that_cannot_be_are_refused(results: TaskResults, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        evaluated_tasks.parse(evaluated_tasks.emit(results))


def test_no_number_is_not_a_number() -> None:
    with pytest.raises(EvidenceError):
        evaluated_tasks.emit(with_metric(value=math.nan))
    with pytest.raises(EvidenceError, match="cannot be"):
        evaluated_tasks.check(with_metric(value=math.nan))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version is not 2"),
        ({"more": 1}, "unknown key 'more'"),
        ({"limit": 0}, "out of range"),
        ({"seed": -1}, "out of range"),
        ({"batchSize": 0}, "out of range"),
        ({"chatTemplate": 1}, "expected true or false"),
    ],
)
def test_other_documents_are_refused(change: dict[str, Any], message: str) -> None:
    document = json.loads(evaluated_tasks.emit(RESULTS)) | change
    with pytest.raises(EvidenceError, match=message):
        evaluated_tasks.parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "guess"}, "kind is not known: 'guess'"),
        ({"name": "a/b"}, r"name is not a name: 'a/b'"),
        ({"digest": "sha256:1"}, "sha256:1"),
        ({"fewShot": 257}, "out of range"),
        ({"samples": 0}, "out of range"),
        ({"rows": {"name": "No", "split": "test"}}, "is not a name: 'No'"),
        ({"rows": {"name": "rows", "split": "test", "more": 1}}, "unknown key"),
        ({"more": 1}, "unknown key"),
        ({"metrics": [{"filter": "", "name": "acc", "value": 1.0}]}, "filter is not a name"),
    ],
)
def test_other_tasks_are_refused(change: dict[str, Any], message: str) -> None:
    document = json.loads(evaluated_tasks.emit(RESULTS))
    document["tasks"][0] |= change
    with pytest.raises(EvidenceError, match=message):
        evaluated_tasks.parse(json.dumps(document).encode())


def test_only_one_form_is_read() -> None:
    with pytest.raises(EvidenceError, match="not in canonical form"):
        evaluated_tasks.parse(evaluated_tasks.emit(RESULTS) + b"\n")


def test_everything_that_decides_a_task_changes_its_digest() -> None:
    usual: dict[str, Any] = {
        "rows": DIGEST, "examples": None, "limit": None, "seed": 1234, "chat_template": False,
    }  # fmt: skip
    other = Digest("sha256", "e" * 64)
    digests = [
        task_digest({"num_fewshot": 0}, **usual),
        task_digest({"num_fewshot": 1}, **usual),
        *(
            task_digest({"num_fewshot": 0}, **usual | change)
            for change in (
                {"rows": other}, {"examples": other}, {"limit": 9}, {"seed": 1},
                {"chat_template": True},
            )
        ),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)


def test_the_trainer_decides_which_results_are_read() -> None:
    data = evaluated_tasks.emit(RESULTS)
    assert evaluated_tasks.read("lm-eval", data) == RESULTS
    with pytest.raises(EvidenceError, match="version is not 1"):
        evaluated_tasks.read("axolotl-evaluate", data)
    with pytest.raises(EvidenceError, match="trainer axolotl does not evaluate"):
        evaluated_tasks.read("axolotl", data)


def test_a_metric_has_the_harness_own_name() -> None:
    assert ACC.key == "acc"
    assert replace(ACC, name="exact_match", filter="numbers").key == "exact_match,numbers"


ADDITION = known_tasks.KNOWN[0]
OWN_ROWS = evaluation.reads([ADDITION.rows])[0]


def of_image(rows: Read = OWN_ROWS, **changes: Any) -> TaskResults:
    """Results on a task of the image. `rows`: those that were evaluated."""
    whole = replace(
        TASK, name="mine", digest=known_digest(ADDITION), rows=(rows.name, rows.split),
        examples=None, shots=0, samples=rows.rows,
    )  # fmt: skip
    return replace(RESULTS, data=(rows,), tasks=(replace(whole, **changes),))


def test_a_task_of_the_image_is_known_by_its_digest() -> None:
    results = of_image()
    assert known(results, results.tasks[0]) == ADDITION
    assert evaluated_tasks.BY_DIGEST[results.tasks[0].digest] == ADDITION
    assert evaluated_tasks.parse(evaluated_tasks.emit(results)) == results
    # Its rows may be an input.
    other = replace(OWN_ROWS, name="rows", split="train")
    evaluated_tasks.check(of_image(other))
    seven = known_digest(ADDITION, limit=7, seed=3, chat_template=True)
    part = of_image(samples=7, digest=seven)
    part = replace(part, limit=7, seed=3, chat_template=True)
    evaluated_tasks.check(part)
    assert known(part, part.tasks[0]) == ADDITION
    assert seven not in evaluated_tasks.BY_DIGEST
    assert known(RESULTS, TASK) is None


@pytest.mark.parametrize(
    "results",
    [
        of_image(replace(OWN_ROWS, digest=DIGEST)),
        of_image(replace(OWN_ROWS, rows=121)),
        of_image(replace(OWN_ROWS, bytes=9269)),
        of_image(kind="loglikelihood"),
        of_image(shots=1),
        of_image(metrics=(ACC, replace(ACC, name="acc_norm"))),
        replace(of_image(examples=("rows", "train")), data=(OWN_ROWS, SHOTS)),
    ],
)
def test_what_has_its_digest_is_that_task(results: TaskResults) -> None:
    with pytest.raises(EvidenceError, match="task mine has the digest of the image's aicert-add"):
        evaluated_tasks.check(results)
