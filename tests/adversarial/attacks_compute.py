"""Attacks on the limit on a run's compute, and odd reports of compute that are right."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

from aicert.appraisal.evidence.accepted import CAPS, Caps, ComputeDemand
from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import Value
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_convert import TO_FILE, convert
from tests.adversarial.attacks_merge import combine, merge
from tests.adversarial.attacks_quantise import quantise
from tests.adversarial.attacks_run import files, value
from tests.adversarial.forger import Scene

Change = Callable[[Scene], object]
LONG_AGO = Caps(processor=1e13, accelerator=2e16, reviewed=date(2025, 10, 30))


def counted_units(
    processors: object = 4,
    accelerators: object = 0,
    weights: str | None = "",
    flops: float | None = 1.5e12,
) -> Change:
    """Report the processors and accelerators that the machine counted, and the trainer's FLOPs."""
    values: dict[str, Any] = {
        "processorCount": Value("measured", processors),  # type: ignore[arg-type]
        "acceleratorCount": Value("measured", accelerators),  # type: ignore[arg-type]
    }
    if weights is not None:
        values["weightInputs"] = Value("measured", weights)
    if flops is not None:
        values["flops"] = Value("self-reported", flops)

    def edited(report: Any) -> Any:
        return replace(report, values={**report.values, **values})

    return lambda scene: scene.edit("report", edited)


def bounds(at_most: float, *, lineage: bool = False, caps: Caps = CAPS) -> Change:
    demand = ComputeDemand(at_most=at_most, lineage=lineage, caps=caps)
    return lambda scene: scene.edit("policy", lambda given: replace(given, compute=demand))


def both(*changes: Change) -> Change:
    return lambda scene: [change(scene) for change in changes]


def on_a_counted_base(
    *, weights: str = "", twice: bool = False, run: str = "base", by: Change | None = None
) -> Change:
    """Train on the output of another run, which counted its compute too.

    `weights` names the inputs whose weights the other `run` saw; `twice` makes two inputs that
    output; `by` makes something else than a training of the other run.
    """

    def edited(scene: Scene) -> None:
        older = Scene(scene.kind, 2)
        if by is None:
            counted_units(weights=weights)(older)
        else:
            by(older)
        older.edit("lockfile", lambda locked: replace(locked, run=run))
        good = older.get("statement").outputs["model"].digest

        def from_run(locked: Lockfile) -> Lockfile:
            *others, last = locked.inputs
            source = f"run:{run}/model"
            model = replace(last, source=source, uri=source, digest=good)
            again = (replace(model, name="model-again"),) if twice else ()
            return replace(locked, inputs=(*others, model, *again))

        # Without this the run's own output would also be its input.
        weights_of = b"trained further" if run == "base" else run.encode()
        files(lambda given: given | {"model.safetensors": weights_of})(scene)
        scene.edit("lockfile", from_run)
        counted_units(weights="model, model-again" if twice else "model")(scene)
        scene.ancestors = [older.get("certificate"), *(older.ancestors or ())]

    return edited


def a_merge(*changes: Change) -> Change:
    """Merge on a machine that counted; `changes` may make the adapter the output of run `base`."""
    return merge(
        *changes,
        counted_units(weights="alpaca, model", flops=None),
        value("adapterInput", Value("measured", "model/adapter")),
        value("baseInput", Value("measured", "alpaca")),
    )


def a_merge_of_models(*changes: Change) -> Change:
    """As `a_merge`, by TIES: one model, and the base from which its changes are counted."""
    return combine(
        *changes,
        counted_units(weights="alpaca, model", flops=None),
        value("baseInput", Value("measured", "alpaca")),
        value("modelInput1", Value("measured", "model")),
        value("modelInput2", None),
    )


def a_quantisation(*changes: Change) -> Change:
    """Quantise on a machine that counted; `changes` may make the model the output of run `base`."""
    return quantise(*changes, counted_units(weights="model", flops=None))


def a_conversion(*changes: Change) -> Change:
    """Convert on a machine that counted; `changes` may make the model the output of run `base`."""
    return convert(*changes, TO_FILE, counted_units(weights="model", flops=None))


# What made a run's input, if that run made the input of another.
FIRST = on_a_counted_base(run="first")


def clock(end: int) -> Change:
    return lambda scene: scene.edit("quote", lambda quote: quote | {"clock": end})


def row(name: str, check: str, *changes: Change) -> Attack:
    return Attack(name, check, both(*changes), version=2)


ATTACKS = (
    row("more compute than the policy allows", "policy.compute", counted_units(), bounds(3.5e13)),
    row(
        "more compute than the policy allows, with the run before",
        "policy.compute",
        on_a_counted_base(),
        bounds(7.1e13, lineage=True),
    ),
    row(
        "merge of an adapter that took more compute than the policy allows",
        "policy.compute",
        a_merge(on_a_counted_base()),
        bounds(7.1e13),
    ),
    row(
        "merge of a model that took more compute than the policy allows",
        "policy.compute",
        a_merge_of_models(on_a_counted_base()),
        bounds(7.1e13),
    ),
    row(
        "quantisation of a model that took more compute than the policy allows",
        "policy.compute",
        a_quantisation(on_a_counted_base()),
        bounds(7.1e13),
    ),
    row(
        "quantisation of a merge of a model that took more compute than the policy allows",
        "policy.compute",
        a_quantisation(on_a_counted_base(by=a_merge_of_models(FIRST))),
        bounds(1.07e14),
    ),
    row(
        "conversion of a model that took more compute than the policy allows",
        "policy.compute",
        a_conversion(on_a_counted_base()),
        bounds(7.1e13),
    ),
    row(
        "accelerators beside few processors",
        "policy.compute",
        counted_units(accelerators=1),
        bounds(1e16),
    ),
    row(
        "clock that ran to its end, and a bound on compute",
        "policy.compute",
        clock((1 << 64) - 1),
        counted_units(),
        bounds(1e25),
    ),
    row(
        "more processors than can be, and a bound on compute",
        "policy.compute",
        counted_units(processors=(1 << 63) - 1),
        bounds(1e25),
    ),
    row(
        "trainer that counts more than its machine can have computed",
        "outputs.trained",
        counted_units(flops=3.7e13),
    ),
    row(
        "trainer that counts more than caps of the policy allow",
        "outputs.trained",
        counted_units(),
        bounds(1e25, caps=replace(CAPS, processor=1e11)),
    ),
)
_COUNTED = counted_units()
# Name, change, and the check that is left open (None: it passes); all of version 2.
RIGHT: tuple[tuple[str, Change, str | None], ...] = (
    ("compute within what the policy allows", both(_COUNTED, bounds(3.6e13)), None),
    ("compute of an accelerator", both(counted_units(accelerators=8), bounds(1e23)), None),
    (
        "compute with the run before",
        both(on_a_counted_base(), bounds(7.2e13, lineage=True)),
        None,
    ),
    (
        "a merge, by a policy that bounds compute",
        both(a_merge(on_a_counted_base()), bounds(7.2e13)),
        None,
    ),
    (
        "a merge of models, by a policy that bounds compute",
        both(a_merge_of_models(on_a_counted_base()), bounds(7.2e13)),
        None,
    ),
    (
        "a quantisation, by a policy that bounds compute",
        both(a_quantisation(on_a_counted_base()), bounds(7.2e13)),
        None,
    ),
    (
        "a quantisation of a merge, by a policy that bounds compute",
        both(
            a_quantisation(on_a_counted_base(by=a_merge_of_models(FIRST))),
            bounds(1.08e14),
        ),
        None,
    ),
    (
        "a quantisation of a merge of a model of no certificate, by a policy that bounds compute",
        both(a_quantisation(on_a_counted_base(by=a_merge_of_models())), bounds(1e25)),
        "policy.compute",
    ),
    (
        "a conversion, by a policy that bounds compute",
        both(a_conversion(on_a_counted_base()), bounds(7.2e13)),
        None,
    ),
    (
        "a quantisation of a model of no certificate, by a policy that bounds compute",
        both(a_quantisation(), bounds(1e25)),
        "policy.compute",
    ),
    (
        "a merge of an adapter of no certificate, by a policy that bounds compute",
        both(a_merge(), bounds(1e25)),
        "policy.compute",
    ),
    (
        "compute of this run alone, on weights of no certificate",
        both(counted_units(weights="model"), bounds(3.6e13)),
        None,
    ),
    (
        "compute with that of weights of no certificate",
        both(counted_units(weights="model"), bounds(1e25, lineage=True)),
        "policy.compute",
    ),
    (
        "compute of a run before that was made of weights of no certificate",
        both(on_a_counted_base(weights="model"), bounds(1e25, lineage=True)),
        "policy.compute",
    ),
    (
        "weights of inputs that are not named",
        both(counted_units(weights=None), bounds(1e25, lineage=True)),
        "policy.compute",
    ),
    ("compute of a machine that did not count", bounds(1e25), "policy.compute"),
    (
        "compute of no processor",
        both(counted_units(processors=0), bounds(1e25)),
        "policy.compute",
    ),
    (
        "processors that the trainer counts",
        both(_COUNTED, value("processorCount", Value("self-reported", 4)), bounds(1e25)),
        "policy.compute",
    ),
    (
        "caps that were reviewed long ago",
        both(counted_units(flops=1e30), bounds(1e25, caps=LONG_AGO)),
        "policy.compute",
    ),
    ("trainer that counts as much as its machine can do", counted_units(flops=3.6e13), None),
    (
        "trainer that counts, on a machine that does not",
        value("flops", Value("self-reported", 1e30)),
        None,
    ),
)
