"""Judge what evaluations measured of a model: evaluation.present and evaluation.result.

An evaluation counts if its certificate passes under the caller's policy, without claims and
demands, is of kind evaluate, names exactly the given results, and agrees with them about inputs and
rows (`audits.py`). Its results name the weights by their digest, which must be that of an output of
the run, as a whole; an adapter must have been loaded on the base that it was trained on. A demand
names a task, so that nobody can choose an easy one; each evaluation that counts for it has to be
within the bounds. Ancestors are not asked (docs/spec/evaluation.md, "Demanded by a policy").
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from aicert.appraisal.checklist import NotApplicableError
from aicert.appraisal.checks.context import Context
from aicert.appraisal.checks.kinds import BASE_INPUT, OF_RESULTS, kind_of, named_input
from aicert.appraisal.checks.run import VerifiedRun
from aicert.appraisal.evidence.accepted import EvaluationDemand
from aicert.appraisal.evidence.audited import Audit
from aicert.appraisal.evidence.audits import name_of, some
from aicert.appraisal.result import AttestationResult
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.evaluated_tasks import BY_DIGEST, Evaluated, TaskResults
from aicert.formats.evaluation import Results, Weights
from aicert.formats.strict_json import dumps
from aicert.frozen import dataclass
from aicert.text import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number of an evaluation, in the form in which a policy demands it.

    `samples`: how many samples it is about. `template_tokens`: how many of its tokens come from no
    row.
    """

    task: Digest
    metric: str
    value: float
    samples: int
    template_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """An evaluation of the run's output, and one of its measures."""

    audit: Audit
    measure: Measure


def task_of(results: Results) -> Digest:
    """Return the digest of what was asked: the config that the machine ran, and all rows."""
    rows = [str(read.digest) for read in results.data]
    return of_bytes(dumps({"config": str(results.config), "rows": rows}))


def measures(results: Evaluated) -> tuple[Measure, ...]:
    """Return the numbers that a policy can demand."""
    if isinstance(results, TaskResults):
        return tuple(
            Measure(
                task=task.digest,
                metric=metric.key,
                value=metric.value,
                samples=task.samples,
                # What a task's template writes is named by the task's digest.
                template_tokens=0,
            )
            for task in results.tasks
            for metric in task.metrics
        )
    return (
        Measure(
            task=task_of(results),
            metric="loss",
            value=results.loss,
            samples=results.rows,
            template_tokens=results.template_tokens,
        ),
    )


def present(context: Context) -> tuple[str, tuple[AttestationResult, ...]]:
    """Decide evaluation.present: each output was evaluated as the policy demands.

    Returns the verdicts on these evaluations.
    """
    run, given = _asked(context)
    used: list[AttestationResult] = []
    lines = []
    for name, output in run.statement.outputs.items():
        for demand in context.policy.evaluations:
            hits = _hits(demand, run, output.digest, given)
            if not hits:
                raise EvidenceError(_gap(demand, run, name, given))
            used += [one.audit.verdict for one in hits if one.audit.verdict not in used]
            by = ", ".join(dict.fromkeys(name_of(one.audit) for one in hits))
            lines.append(f"{name}: {_what(demand)} by {by}")
    return "\n".join(some(lines)), tuple(used)


def result(context: Context) -> tuple[str, None]:
    """Decide evaluation.result: every evaluation that counts is within the policy's bounds."""
    run, given = _asked(context)
    lines, unbounded, most = [], [], 0
    for output in run.statement.outputs.values():
        for demand in context.policy.evaluations:
            for hit in _hits(demand, run, output.digest, given):
                measure, where = hit.measure, f"{demand.metric} by {name_of(hit.audit)}"
                _check(demand, measure, where, context.policy.name)
                samples, tokens = counted(measure.samples, "sample"), measure.template_tokens
                lines.append(f"{where}: {measure.value:.6g}, of {samples}")
                if tokens and demand.template_tokens is None:
                    most = max(most, tokens)
                    unbounded.append(
                        f"{where}: {counted(tokens, 'token')} from templates, without a bound"
                    )
    if unbounded:
        raise UndecidedError(
            f"policy {context.policy.name} cannot judge this: {unbounded[0]}",
            hint=f"template-tokens = {most} in [[evaluation]], if so many are harmless",
        )
    return "\n".join(some(lines)), None


def _check(demand: EvaluationDemand, measure: Measure, where: str, policy: str) -> None:
    """Raise EvidenceError if the measure is beyond a bound."""
    low, high, tokens = demand.at_least, demand.at_most, demand.template_tokens
    wrong = ""
    if measure.samples < demand.samples:
        wrong = f"{counted(measure.samples, 'sample')}, but policy {policy} asks for "
        wrong += str(demand.samples)
    elif tokens is not None and measure.template_tokens > tokens:
        wrong = f"{counted(measure.template_tokens, 'token')} from templates, but policy {policy} "
        wrong += f"allows {tokens}"
    elif low is not None and not measure.value >= low:
        wrong = f"{measure.value:.6g}, but policy {policy} asks for at least {low:g}"
    elif high is not None and not measure.value <= high:
        wrong = f"{measure.value:.6g}, but policy {policy} allows at most {high:g}"
    if wrong:
        raise EvidenceError(f"{where}: {wrong}")


def _asked(context: Context) -> tuple[VerifiedRun, list[Audit]]:
    """Return the run, and the evaluations that were given."""
    if context.run is None:
        raise ValueError("evaluations are judged before their run is verified")
    if kind_of(context.run) in OF_RESULTS:
        raise NotApplicableError(f"the run is an {OF_RESULTS[kind_of(context.run)]} itself")
    if context.audits is None:
        raise UndecidedError("you gave no evaluations", hint="--evidence DIR")
    given = [audit() for audit in context.audits]
    return context.run, [audit for audit in given if audit.kind == "evaluate"]


def _hits(
    demand: EvaluationDemand, run: VerifiedRun, output: Digest, given: Iterable[Audit]
) -> list[_Hit]:
    """Return the demanded measures of this output."""
    return [
        _Hit(audit=audit, measure=measure)
        for audit in given
        if audit.evaluation is not None and not _other(audit.evaluation, run, [output])
        for measure in measures(audit.evaluation)
        if (measure.task, measure.metric) == (demand.task, demand.metric)
    ]


def _other(results: Evaluated, run: VerifiedRun, outputs: Sequence[Digest]) -> str:
    """Describe the evaluated weights if they are none of these outputs; otherwise return ""."""
    subject = results.subject
    if subject.inside or subject.digest not in outputs:
        return f"evaluated other weights: {_weights(subject)}"
    if results.adapter is None:
        return ""
    name, digest = named_input(run, BASE_INPUT)
    base = results.base
    if (base.digest, base.inside) != (digest, name.partition("/")[2]):
        return f"loaded the adapter on another base: {_weights(base)}"
    return ""


def _weights(weights: Weights) -> str:
    return f"{weights.digest}" + (f", of {weights.inside[:200]!a} in it" if weights.inside else "")


def _gap(demand: EvaluationDemand, run: VerifiedRun, output: str, given: Sequence[Audit]) -> str:
    """Describe the missing evaluation, and why each of the given ones does not count for it."""
    reasons = []
    outputs = [run.statement.outputs[output].digest]
    for audit in given:
        results = audit.evaluation
        reason = f"does not count: {audit.refused}"
        if results is not None:
            others = ", ".join(f"{one.metric} of {_task(one.task)}" for one in measures(results))
            reason = _other(results, run, outputs) or f"measured {others}"
        reasons.append(f"{name_of(audit)} {reason}")
    gap = f"output {output} was not evaluated: no {_what(demand)}"
    return "\n".join([gap, *some(reasons)])


def _what(demand: EvaluationDemand) -> str:
    return f"{demand.metric} of {_task(demand.task)}"


def _task(digest: Digest) -> str:
    """Name a task, also by the name that a whole task of the image has."""
    known = BY_DIGEST.get(digest)
    return f"task {digest}" + ("" if known is None else f" ({known.name})")


# The judge of each check; it is called with what was verified before.
JUDGES: Final[Mapping[str, Callable[[Context], tuple[str, Any]]]] = {
    "evaluation.present": present,
    "evaluation.result": result,
}
