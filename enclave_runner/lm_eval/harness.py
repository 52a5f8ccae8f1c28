"""Evaluate on tasks in the machine: make rows, run the child that evaluates, check its numbers.

The child's libraries parse files that anybody may have written, so its numbers are read as hostile:
each task has exactly the metrics that its definition asks for, over exactly the rows that the limit
leaves. The runner writes what the results are about.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aicert.errors import ConfigError, EvidenceError
from aicert.files.bounded import read_bounded
from aicert.formats import evaluated_tasks, evaluation, strict_json
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.evaluated_tasks import MAX_METRICS, TaskResults
from aicert.formats.evaluated_tasks import Task as TaskResult
from aicert.formats.strict_json import Fields
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.strict_yaml import MAX_BYTES
from enclave_runner.evaluate import evaluating
from enclave_runner.evaluate import evaluation as trainer
from enclave_runner.evaluate.evaluation import Evaluation, Prepared, Subject, numbers_in
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.rows import Room, Rows
from enclave_runner.lm_eval import child, image_tasks, settings
from enclave_runner.lm_eval.definition import EVALUATED, FEW_SHOT, Source, Task
from enclave_runner.lm_eval.settings import EvaluationPlan
from enclave_runner.sandbox.places import CODE, JOB, OUTPUT

# Code that the child shares with another trainer's.
_KEPT = "enclave_runner/axolotl/measuring/kept_texts.py"
_MAX_NUMBERS = 1 << 16


def read(data: bytes, measured: Sequence[MeasuredInput]) -> EvaluationPlan:
    """Read the config and the tasks that it names. Raises ConfigError."""
    views = evaluating.views(measured)
    by_name = {item.name: item for item in measured}

    def file_of(name: str, inside: str) -> bytes:
        if name == settings.OF_IMAGE:
            return task_file(image_tasks.task_file(inside))
        item = by_name[name]
        data = task_file(item.path / inside)
        # Somebody may have written to the path after it was hashed.
        if of_bytes(data).hex != item.files[inside].sha256:
            raise ConfigError(f"config: the task {name} changed while it was read")
        return data

    return settings.with_tasks(settings.read(data, views), views, file_of)


def task_file(path: Path) -> bytes:
    """Read a task's file. Raises ConfigError if it is longer than a task can be."""
    try:
        return read_bounded(path, MAX_BYTES, "the task")
    except EvidenceError as error:
        raise ConfigError(f"config: {error.message}") from None


def prepare(
    asked: EvaluationPlan, measured: Sequence[MeasuredInput], room: Room, folder: Path
) -> Prepared[EvaluationPlan]:
    """Refuse what cannot be evaluated, and prepare the rest for the child.

    Cleaned copies of models' JSON files are written below `folder`.
    """
    of_image = [inside for name, inside in asked.settings.tasks if name == settings.OF_IMAGE]
    prepared = trainer.prepare(
        asked,
        asked.settings.references,
        tuple(asked.selections.values()),
        measured,
        [*measured, *map(image_tasks.rows, of_image)],
        room,
        folder,
    )
    _check_examples(asked, _digests(prepared.rows))
    return prepared


def _check_examples(asked: EvaluationPlan, digests: Mapping[tuple[str, str], Digest]) -> None:
    """Refuse a task whose examples are its own rows under another name.

    The harness keeps a row from its own examples only if both come from one split; otherwise the
    answer could be in the prompt. Raises ConfigError.
    """
    for task in asked.tasks:
        examples = task.examples
        if examples is not None and digests[_place(examples)] == digests[_place(task.evaluated)]:
            raise ConfigError(
                f"config: task {task.name}: its examples, {examples.split} of {examples.input}, "
                "are the rows that it evaluates",
                hint=f"write `fewshot_split: {task.evaluated.split}`",
            )


def _job(prepared: Prepared[EvaluationPlan], scratch: Path) -> Job:
    job = scratch.with_name(f"{scratch.name}-evaluation.json")
    job.write_bytes(strict_json.dumps(_instructions(prepared)))
    kept = Path(child.__file__).parents[2] / _KEPT
    return Job(
        program=child,
        arguments=(JOB, OUTPUT),
        shown={f"{CODE}/{_KEPT}": kept, JOB: job, **prepared.shown},
        copied=prepared.rows.copied,
    )


def _instructions(prepared: Prepared[EvaluationPlan]) -> dict[str, object]:
    asked = prepared.asked
    own = asked.settings
    return {
        "adapter": None if own.adapter is None else own.adapter.place,
        "batchSize": own.batch_size,
        "chatTemplate": own.chat_template,
        "limit": own.limit,
        "model": own.base.place,
        "seed": own.seed,
        "tasks": [_task_job(prepared, task) for task in asked.tasks],
    }


def _task_job(prepared: Prepared[EvaluationPlan], task: Task) -> dict[str, object]:
    places = {EVALUATED: task.evaluated, FEW_SHOT: task.examples}
    files = {name: _files(prepared, source) for name, source in places.items() if source}
    return {"definition": task.definition, "name": task.name, "rows": files}


def _files(prepared: Prepared[EvaluationPlan], source: Source) -> list[str]:
    """Return where the child finds the rows of a source, in order."""
    place = prepared.asked.selections[source].place
    names = sorted(path.name for path in (prepared.shown[place] / "data").iterdir())
    return [f"{place}/data/{name}" for name in names]


def _results(
    prepared: Prepared[EvaluationPlan], measured: Sequence[MeasuredInput], output: Path
) -> bytes:
    """Read the child's numbers and make the results.

    Raises EvidenceError if the numbers cannot come from these tasks and rows.
    """
    asked = prepared.asked
    numbers = numbers_in(output, child.MEASURED, _MAX_NUMBERS)
    if not isinstance(numbers, list) or len(numbers) != len(asked.tasks):
        raise EvidenceError("it did not measure each task")
    own = asked.settings
    digests = {item.name: item.digest for item in measured}
    results = TaskResults(
        base=evaluating.weights_of(own.base, digests),
        adapter=None if own.adapter is None else evaluating.weights_of(own.adapter, digests),
        config=asked.digest,
        data=evaluation.reads(prepared.rows.records),
        tasks=tuple(
            _task(prepared, task, value)
            for task, value in zip(asked.tasks, numbers, strict=True)
        ),
        limit=own.limit,
        seed=own.seed,
        batch_size=own.batch_size,
        chat_template=own.chat_template,
    )  # fmt: skip
    evaluated_tasks.check(results)
    return evaluated_tasks.emit(results)


def _task(prepared: Prepared[EvaluationPlan], task: Task, value: object) -> TaskResult:
    fields = Fields(value, f"numbers of {task.name}")
    metrics = fields.items("metrics", evaluated_tasks.read_metric, max_items=MAX_METRICS)
    ordered = sorted(metrics, key=lambda metric: (metric.name, metric.filter))
    if [(metric.name, metric.filter) for metric in ordered] != task.measures:
        raise EvidenceError(f"it did not measure what task {task.name} asks for")
    own, digests = prepared.asked.settings, _digests(prepared.rows)
    examples = None if task.examples is None else _place(task.examples)
    result = TaskResult(
        name=task.name,
        digest=evaluated_tasks.task_digest(
            task.definition,
            rows=digests[_place(task.evaluated)],
            examples=None if examples is None else digests[examples],
            limit=own.limit,
            seed=own.seed,
            chat_template=own.chat_template,
        ),
        kind=task.kind,
        rows=_place(task.evaluated),
        examples=examples,
        shots=task.shots,
        samples=fields.integer("samples", low=1),
        metrics=tuple(ordered),
    )
    fields.done()
    return result


def _place(source: Source) -> tuple[str, str]:
    return source.input, source.split


def _digests(read: Rows) -> dict[tuple[str, str], Digest]:
    return {(each.name, each.split): each.digest for each in read.records}


def _subject(asked: EvaluationPlan) -> Subject:
    own = asked.settings
    return Subject(
        base=own.base,
        adapter=own.adapter,
        references=own.references,
        config=asked.config,
        digest=str(asked.digest),
    )


EVALUATION: Final = Evaluation(
    what=settings.TRAINER,
    read=read,
    prepare=prepare,
    job=_job,
    results=_results,
    subject=_subject,
)
