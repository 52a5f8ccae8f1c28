"""`aicert verify --evidence DIR`: what evaluations in DIR say about a model.

An evaluation is about the model whose digest its results name, which must be the subject of the
verdict. Before the results are read, the evaluation's certificate is judged under the same policy,
root and time, without claims and demands. Nothing here changes the verdict; if the policy demands
evaluations, `appraisal/evidence/evaluations.py` lets them count. If an evaluation does not count,
this says why.
"""

from collections.abc import Iterator, Sequence

from aicert.appraisal.checks.kinds import OF_RESULTS
from aicert.appraisal.evidence.audits import read_evaluation
from aicert.appraisal.evidence.evaluations import task_of
from aicert.appraisal.result import AttestationResult
from aicert.cli.verify import audit_certificate
from aicert.cli.verify.conditions import Conditions
from aicert.cli.verify.evidence import runs_of
from aicert.errors import AicertError
from aicert.formats import evaluated_tasks
from aicert.formats.digest import of_bytes
from aicert.formats.evaluated_tasks import Metric, Task, TaskResults
from aicert.formats.evaluation import Read, Results
from aicert.frozen import dataclass
from aicert.text import MARGIN, counted, safe
from aicert.verifier.evidence import Evaluation, Given


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """The evaluations that count and, for the others by folder, why not."""

    counted: tuple[Evaluation, ...]
    refused: tuple[tuple[str, str], ...]


def gather(given: Sequence[Given], conditions: Conditions) -> Evaluations:
    """Judge every evaluation in the folder as the caller asked."""
    good: list[Evaluation] = []
    refused: list[tuple[str, str]] = []
    for one in given:
        if one.evaluation is not None:
            try:
                good.append(_judged(one, one.evaluation, conditions))
            except AicertError as error:
                refused.append((one.name, error.message))
    return Evaluations(counted=tuple(good), refused=tuple(refused))


def _judged(one: Given, data: bytes, conditions: Conditions) -> Evaluation:
    verdict = conditions.audits.verdict(one.certificate)
    audit_certificate.check_named(verdict, data, conditions.named, "evaluate")
    results = read_evaluation(one.certificate, data, verdict)
    return Evaluation(
        run=verdict.run or "", tier=verdict.tier or "", digest=of_bytes(data), results=results
    )


def _is_about(one: Evaluation, result: AttestationResult) -> bool:
    """Return whether the results are about the whole model of the verdict."""
    return any(map(one.is_about, (result.subject or {}).values()))


def _trained_on(read: Read, result: AttestationResult) -> list[str]:
    """Return the runs behind the model that read the same rows."""
    return [
        run
        for run, facts in runs_of(result)
        for rows in (() if facts is None else facts.records)
        if (rows.digest, rows.rows) == (read.digest, read.rows)
    ]


def lines(evaluations: Evaluations, result: AttestationResult) -> Iterator[str]:
    """Yield the lines about evaluations that `aicert verify --evidence` prints."""
    for one in evaluations.counted:
        run, results = safe(one.run), one.results
        if not _is_about(one, result):
            if result.kind in OF_RESULTS:
                continue
            weights = results.subject
            part = f", of {safe(weights.inside)} in it" if weights.inside else ""
            yield f"  -       run {run} evaluated another model: {weights.digest}{part}"
            continue
        yield from (
            _of_tasks(one, results) if isinstance(results, TaskResults) else _loss(one, results)
        )
        if results.adapter is not None:
            yield f"{MARGIN}an adapter, loaded on {results.base.digest}"
        for read in results.data:
            yield (
                f"{MARGIN}{read.name} {safe(read.split)}, {counted(read.rows, 'row')}: "
                f"{read.digest}"
            )
            for trained in _trained_on(read, result):
                yield f"{MARGIN}these are rows that run {safe(trained)} was trained on"
    for output, digest in (result.subject or {}).items():
        is_evaluated = any(one.is_about(digest) for one in evaluations.counted)
        if result.kind not in OF_RESULTS and not is_evaluated:
            yield f"  -       output {safe(output)}: not evaluated"
    for name, reason in evaluations.refused:
        yield f"  -       {safe(name)} does not count: {safe(reason.partition(chr(10))[0])}"


def _loss(one: Evaluation, results: Results) -> Iterator[str]:
    rows = f"n = {counted(results.rows, 'row')}, measured"
    yield f"  evaluated: run {safe(one.run)}, loss {results.loss:.4g} per token ({rows})"
    yield f"{MARGIN}tier {one.tier}, results {one.digest}"
    yield (
        f"{MARGIN}perplexity {results.perplexity:.4g}, {counted(results.tokens, 'token')}, "
        f"{results.template_tokens} of them from templates; "
        f"{counted(results.left_out, 'row')} left out"
    )
    yield f"{MARGIN}custom task {task_of(results)}"


def _of_tasks(one: Evaluation, results: TaskResults) -> Iterator[str]:
    rows = {(read.name, read.split): read.rows for read in results.data}
    for task in results.tasks:
        metrics = ", ".join(map(_metric, task.metrics))
        yield f"  evaluated: {_named(results, task)}: {metrics} (n = {task.samples}, measured)"
        name, split = task.rows
        whole = rows[task.rows]
        part = "all" if task.samples == whole else f"only the first {task.samples} of"
        yield (
            f"{MARGIN}{part} {counted(whole, 'row')} of {name} {safe(split)}, "
            f"{counted(task.shots, 'example')} before each"
        )
    template = ", with the model's chat template" if results.chat_template else ""
    yield f"{MARGIN}run {safe(one.run)}, tier {one.tier}, results {one.digest}{template}"


def _named(results: TaskResults, task: Task) -> str:
    """Name a task: by a name that means something only if its digest is one of the image's."""
    known = evaluated_tasks.known(results, task)
    if known is None:
        return f'custom task {task.digest} (called "{task.name}" by the builder)'
    if task.digest in evaluated_tasks.BY_DIGEST:
        return f"{known.name} ({task.digest})"
    ways = (
        ("" if results.limit is None else f"only the first {counted(task.samples, 'row')}"),
        ("" if results.seed == evaluated_tasks.SEED else f"seed {results.seed}"),
        ("in the model's chat template" if results.chat_template else ""),
    )
    return f"{known.name}, but {', '.join(filter(None, ways))} ({task.digest})"


def _metric(metric: Metric) -> str:
    error = "" if metric.stderr is None else f" ± {metric.stderr:.2g}"
    return f"{metric.key} {metric.value:.4g}{error}"


def to_json(evaluations: Evaluations, result: AttestationResult) -> dict[str, object]:
    """Return the evaluations as JSON-ready values."""
    return {
        "evaluations": [_json(one, result) for one in evaluations.counted],
        "evaluationsNotCounted": [
            {"name": name, "reason": reason} for name, reason in evaluations.refused
        ],
    }


def _json(one: Evaluation, result: AttestationResult) -> dict[str, object]:
    results = one.results
    own = _tasks_json(results) if isinstance(results, TaskResults) else _loss_json(results)
    return {
        "run": one.run,
        "tier": one.tier,
        "results": str(one.digest),
        "isAboutTheModel": _is_about(one, result),
        "about": str(results.subject.digest),
        "base": str(results.base.digest),
        **own,
        "data": [
            {
                "name": read.name,
                "split": read.split,
                "digest": str(read.digest),
                "rows": read.rows,
                "trainedOnBy": _trained_on(read, result),
            }
            for read in results.data
        ],
    }


def _loss_json(results: Results) -> dict[str, object]:
    return {
        "task": str(task_of(results)),
        "loss": results.loss,
        "perplexity": results.perplexity,
        "rows": results.rows,
        "leftOut": results.left_out,
        "tokens": results.tokens,
        "templateTokens": results.template_tokens,
    }


def _tasks_json(results: TaskResults) -> dict[str, object]:
    return {
        "limit": results.limit,
        "seed": results.seed,
        "chatTemplate": results.chat_template,
        "tasks": [_task_json(results, task) for task in results.tasks],
    }


def _task_json(results: TaskResults, task: Task) -> dict[str, object]:
    known = evaluated_tasks.known(results, task)
    return {
        "task": str(task.digest),
        "known": None if known is None else known.name,
        "isWhole": task.digest in evaluated_tasks.BY_DIGEST,
        "calledByTheBuilder": task.name,
        "fewShot": task.shots,
        "samples": task.samples,
        "metrics": {
            metric.key: {"value": metric.value, "stderr": metric.stderr} for metric in task.metrics
        },
    }
