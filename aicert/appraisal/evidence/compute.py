"""Judge how much compute a policy allows, and what is known about it (docs/spec/compute.md).

If no certificate shows how weights were made, their compute is unknown, never zero. Left out: what
made inputs that hold no weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from aicert.appraisal.checks.kinds import ADAPTER_INPUT, DERIVED, MODEL_INPUT, check_kind, kind_of
from aicert.appraisal.evidence.accepted import CAPS
from aicert.appraisal.evidence.ceiling import SLACK, Compute, check_review
from aicert.errors import EvidenceError, UndecidedError
from aicert.text import counted

if TYPE_CHECKING:
    from aicert.appraisal.checks.context import Context
    from aicert.appraisal.checks.run import VerifiedRun
    from aicert.appraisal.policy import Policy
    from aicert.appraisal.result import Ancestor, AttestationResult


def of_run(run: "VerifiedRun", policy: "Policy") -> Compute:
    """Return what a verified run shows about its compute, under the policy's caps or the built-in
    ones.
    """
    caps = CAPS if policy.compute is None else policy.compute.caps
    facts, seconds = run.report.compute, run.seconds
    processors, accelerators = facts.processors, facts.accelerators
    unknown, ceiling = "", None
    if seconds is None:
        unknown = "its TPM does not attest how long it took"
    elif processors is None or accelerators is None:
        unknown = "its machine did not count processors and accelerators"
    else:
        ceiling = seconds * SLACK * (processors * caps.processor + accelerators * caps.accelerator)
    return Compute(
        run=run.statement.run,
        seconds=seconds,
        facts=facts,
        caps=caps,
        ceiling=ceiling,
        unknown=unknown,
        made_of=_made_of(run),
    )


def bounded(context: "Context") -> tuple[str, None]:
    """Decide policy.compute: the run cannot have computed more than the policy allows."""
    run, demand = context.run, context.policy.compute
    if run is None or demand is None:
        raise ValueError("policy.compute needs a verified run and a policy that asks")
    if kind_of(run) not in DERIVED:
        check_kind(run, "train")
    check_review(demand.caps, context.then)
    own = of_run(run, context.policy)
    total, runs = own.known, f"run {own.run}"
    if demand.lineage:
        hint = "--lineage CERT of that run; or a [compute] without lineage"
        before = list(_before(own, context.ancestors, _weights, hint))
        runs += f" and {counted(len(before), 'run')} that made its weights"
    else:
        before = list(_before(own, context.ancestors, lambda compute: compute.made_of))
        if own.made_of:
            is_adapter = ADAPTER_INPUT in run.report.values
            makers = "the run that made its adapter" if is_adapter else "those that made its models"
            runs += f" and {makers}"
    total += sum(each.known for each in before)
    bound = f"{runs}: at most {total:.4g} FLOP (derived)"
    if total > demand.at_most:
        raise EvidenceError(
            f"the policy allows {demand.at_most:.4g} FLOP, and nothing shows that it was no more\n"
            f"{bound}\nrun {own.run}  {own.derivation}"
        )
    allowed = f"{bound}, of {demand.at_most:.4g} that the policy allows"
    return f"{allowed}\nrun {own.run}: {own.derivation}\n{own.own_count}", None


def _before(
    own: Compute,
    ancestors: "Sequence[Ancestor]",
    inputs_of: "Callable[[Compute], Sequence[str]]",
    hint: str = "--lineage CERT of that run",
) -> "Iterator[Compute]":
    """Yield the runs that made the inputs which `inputs_of` names for this run, and for those runs
    in turn, each once.
    """
    pending = [(own, ancestors)]
    met: set[int] = set()
    while pending:
        compute, inputs = pending.pop()
        shown = {one.input: one.result for one in inputs if one.reason is None}
        for name in inputs_of(compute):
            result, before = _maker(name, compute.run, shown, hint)
            if id(result) not in met:
                met.add(id(result))
                yield before
                pending.append((before, result.ancestors))


def _weights(compute: Compute) -> "Sequence[str]":
    if compute.facts.weight_inputs is None:
        raise UndecidedError(f"run {compute.run} does not say which of its inputs hold weights")
    return compute.facts.weight_inputs


def _made_of(run: "VerifiedRun") -> tuple[str, ...]:
    """Return the inputs with the adapter or the models that a derived run was given; one without a
    name if it names none; nothing for other runs.

    Such a run trains nothing itself, and whoever bounds one run's compute asks about training: a
    merge of a merge must not hide it.
    """
    if kind_of(run) not in DERIVED:
        return ()
    values = run.report.values
    keys = [key for key in sorted(values) if key.startswith((ADAPTER_INPUT, MODEL_INPUT))]
    return tuple(sorted({str(values[key].data).partition("/")[0] for key in keys})) or ("",)


def _maker(
    name: str, run: str, shown: "Mapping[str, AttestationResult | None]", hint: str
) -> "tuple[AttestationResult, Compute]":
    """Return the run that made the weights in an input; UndecidedError if nothing shows its
    compute.
    """
    result = shown.get(name)
    if result is None:
        raise UndecidedError(
            f"how the weights in input {name!a} of run {run} were made is unknown: "
            "no certificate shows it",
            hint=hint,
        )
    if result.compute is None:
        raise UndecidedError(f"the machine of run {result.run} counted no processors")
    return result, result.compute
