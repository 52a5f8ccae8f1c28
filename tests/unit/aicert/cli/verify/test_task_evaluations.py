"""`aicert verify --evidence` on evaluations by lm-eval: tasks by their digests, and metrics."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aicert.formats import evaluated_tasks, evaluation, known_tasks
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.evaluated_tasks import Metric, Task, TaskResults, known_digest
from aicert.formats.evaluation import Weights
from tests.adversarial.attacks_results import trainer
from tests.adversarial.attacks_run import reported
from tests.adversarial.forger import Scene
from tests.unit.aicert.cli.verify.test_evaluations import (
    DATA,
    NOT_EVALUATED,
    OTHER,
    ask,
    give,
    results_of,
    shown,
)
from tests.unit.aicert.cli.verify.test_evaluations import (
    model as model,  # noqa: PLC0414  # a fixture
)

LM_EVAL = trainer("lm-eval")
TASK_DIGEST = Digest("sha256", "7" * 64)
PLACES = [(read.name, read.split) for read in DATA]


def tasks_of(model: Digest, **changes: object) -> TaskResults:
    """Return results of as many tasks as there are splits, each about all rows of one."""
    tasks = tuple(
        Task(
            name=f"task_{index}", digest=TASK_DIGEST, kind="multiple_choice", rows=place,
            examples=None, shots=index, samples=read.rows,
            metrics=(
                Metric(name="acc", filter="none", value=0.6, stderr=0.06375),
                Metric(name="acc_norm", filter="none", value=1.0, stderr=0.0),
            ),
        )
        for index, (place, read) in enumerate(zip(PLACES, DATA, strict=True))
    )  # fmt: skip
    whole = TaskResults(
        base=Weights(input="model", digest=model, inside=""), adapter=None,
        config=Digest("sha256", "d" * 64), data=DATA, tasks=tasks, limit=None, seed=1234,
        batch_size=1, chat_template=False,
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]  # a test's changes


def test_tasks_join_by_the_models_digest(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = evaluated_tasks.emit(tasks_of(model))
    give(tmp_path, data, LM_EVAL, digests={"model": model})
    assert ask(tmp_path) == 0
    lines = shown(capsys)
    first = DATA[0]
    assert lines[:2] == [
        (
            f'  evaluated: custom task {TASK_DIGEST} (called "task_0" by the builder): '
            f"acc 0.6 ± 0.064, acc_norm 1 ± 0 (n = {first.rows}, measured)"
        ),
        f"          all {first.rows} rows of {first.name} {first.split}, 0 examples before each",
    ]
    assert f"          run look, tier software, results {of_bytes(data)}" in lines
    assert "          these are rows that run tiny was trained on" in lines


def test_a_limit_a_chat_template_and_a_base_are_shown(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tasks_of(
        OTHER, adapter=Weights(input="alpaca", digest=model, inside=""), chat_template=True, limit=2
    )
    few = tuple(replace(task, samples=2) for task in whole.tasks)
    data = evaluated_tasks.emit(replace(whole, tasks=few))
    give(tmp_path, data, LM_EVAL, digests={"model": OTHER, "alpaca": model})
    assert ask(tmp_path) == 0
    lines = "\n".join(shown(capsys))
    assert f"only the first 2 of {DATA[0].rows} rows of" in lines
    assert f"results {of_bytes(data)}, with the model's chat template" in lines
    assert f"          an adapter, loaded on {OTHER}" in lines


def test_programs_get_the_same(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(tmp_path, evaluated_tasks.emit(tasks_of(model)), LM_EVAL, digests={"model": model})
    assert ask(tmp_path, "--format", "json") == 0
    (one,) = json.loads(capsys.readouterr().out)["evidence"]["evaluations"]
    assert (one["isAboutTheModel"], one["limit"], one["seed"], one["chatTemplate"]) == (
        True, None, 1234, False,
    )  # fmt: skip
    assert one["tasks"][0] == {
        "task": str(TASK_DIGEST),
        "known": None,
        "isWhole": False,
        "calledByTheBuilder": "task_0",
        "fewShot": 0,
        "samples": DATA[0].rows,
        "metrics": {
            "acc": {"value": 0.6, "stderr": 0.06375},
            "acc_norm": {"value": 1.0, "stderr": 0.0},
        },
    }


ADDITION = known_tasks.KNOWN[0]


def of_image(model: Digest, **asked: Any) -> TaskResults:
    """Return results on a task of the image. `asked`: its limit, seed and chat template."""
    limit = asked.get("limit")
    (task, *_) = tasks_of(model).tasks
    own = replace(
        task, name="sums", digest=known_digest(ADDITION, **asked), shots=0,
        samples=limit or ADDITION.rows.rows, rows=(ADDITION.name, ADDITION.rows.split),
        metrics=task.metrics[:1],
    )  # fmt: skip
    return tasks_of(model, data=evaluation.reads([ADDITION.rows]), tasks=(own,), **asked)


def read_rows_of_image(scene: Scene) -> None:
    reported(records=(ADDITION.rows,))(scene)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "aicert-addition ("),
        ({"limit": 20}, "aicert-addition, but only the first 20 rows ("),
        (
            {"seed": 7, "chat_template": True},
            "aicert-addition, but seed 7, in the model's chat template (",
        ),
    ],
)
def test_a_task_of_the_image_has_its_name(
    asked: dict[str, Any],
    words: str,
    model: Digest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = of_image(model, **asked)
    data = evaluated_tasks.emit(results)
    give(tmp_path, data, LM_EVAL, read_rows_of_image, digests={"model": model})
    assert ask(tmp_path) == 0
    digest = results.tasks[0].digest
    assert shown(capsys)[0].startswith(f"  evaluated: {words}{digest}): acc 0.6 ± 0.064 (n = ")
    assert ask(tmp_path, "--format", "json") == 0
    (one,) = json.loads(capsys.readouterr().out)["evidence"]["evaluations"]
    (task,) = one["tasks"]
    assert (task["known"], task["isWhole"], task["calledByTheBuilder"]) == (
        "aicert-addition", not asked, "sums",
    )  # fmt: skip


def test_a_name_alone_makes_no_task_of_the_image(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tasks_of(model)
    forged = (replace(whole.tasks[0], name=ADDITION.name), *whole.tasks[1:])
    data = evaluated_tasks.emit(replace(whole, tasks=forged))
    give(tmp_path, data, LM_EVAL, digests={"model": model})
    assert ask(tmp_path) == 0
    words = f'  evaluated: custom task {TASK_DIGEST} (called "aicert-addition" by the builder): '
    assert shown(capsys)[0].startswith(words)


@pytest.mark.parametrize("is_about", [True, False])
def test_an_output_that_nothing_evaluated_is_named(
    is_about: bool, model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = model if is_about else OTHER
    give(tmp_path, evaluated_tasks.emit(tasks_of(about)), LM_EVAL, digests={"model": about})
    assert ask(tmp_path) == 0
    assert (NOT_EVALUATED in capsys.readouterr().out.splitlines()) != is_about


@pytest.mark.parametrize("is_tasks", [True, False])
def test_results_of_the_other_trainer_do_not_count(
    is_tasks: bool, model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, loss = evaluated_tasks.emit(tasks_of(model)), evaluation.emit(results_of(model))
    own = trainer("axolotl-evaluate") if is_tasks else LM_EVAL
    give(tmp_path, tasks if is_tasks else loss, own, digests={"model": model})
    assert ask(tmp_path) == 0
    number = 1 if is_tasks else 2
    assert shown(capsys) == [
        f"  -       look does not count: evaluation results.version is not {number}"
    ]
