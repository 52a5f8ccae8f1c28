"""Attacks on evaluations that a policy demands (evaluation.*), and odd evaluations that are right.

The scene is a training. The evaluation beside it is a scene of its own, on the same platform, whose
results are about the digest of the training's output.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aicert.appraisal.evidence import evaluations
from aicert.appraisal.evidence.accepted import EvaluationDemand
from aicert.appraisal.policy import Claim
from aicert.formats import evaluation
from aicert.formats.digest import Digest
from aicert.formats.evaluation import Results, Weights
from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import Value
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_audits import (
    DOMAINS,
    Given,
    audit_scene,
    both,
    counted,
    locked,
    looked,
    training,
)
from tests.adversarial.attacks_merge import merge
from tests.adversarial.attacks_results import evaluate, named, results, trainer
from tests.adversarial.attacks_run import ancestor, reported, value
from tests.adversarial.forger import FACTS, FILES, Scene, hex_of

Change = Callable[[Scene], object]
PRESENT, RESULT = "evaluation.present", "evaluation.result"
OUTPUT: Digest = Scene("local", 2).get("statement").outputs["model"].digest
BASE = Digest("dirHash", hex_of(b"base model"))
OTHER = Digest("dirHash", hex_of(b"another model"))
# The rows of the evaluation, which nothing was trained on.
ROWS = replace(FACTS["records"][0], digest=Digest("sha256", "c3" * 32), rows=60)
OTHER_ROWS = replace(ROWS, digest=Digest("sha256", "c4" * 32))
# Half of the rows, which the builder chose.
SUBSET = replace(ROWS, digest=Digest("sha256", "c5" * 32), rows=30, bytes=20_000)
OF_MODEL = Weights(input="model", digest=OUTPUT, inside="")


def measured(rows: Any = ROWS, **changes: Any) -> Results:
    """Return results about the training's output: a loss of 2.25 over 58 of 60 rows."""
    left_out = changes.get("left_out", 2)
    whole = Results(
        base=OF_MODEL,
        adapter=None,
        config=Digest("sha256", "d1" * 32),
        data=evaluation.reads([rows]),
        loss=2.25,
        rows=rows.rows - left_out,
        left_out=left_out,
        tokens=900,
        template_tokens=90,
        seed=42,
        sequence_length=256,
    )
    return replace(whole, **changes)


TASK = evaluations.task_of(measured())
LOSS = EvaluationDemand(
    task=TASK, metric="loss", samples=58, at_least=1.0, at_most=2.5, template_tokens=90
)


def evaluated(
    what: Results | None = None,
    *changes: Change,
    rows: Any = ROWS,
    data: bytes | None = None,
    inside: bytes | None = None,
    inputs: dict[str, Digest] | None = None,
) -> Given:
    """Return the certificate of an evaluation and the results that are given with it.

    `data`: what is given instead of the results. `inside`: what the certificate names instead.
    `inputs`: the digests of its inputs by name; by default the model's is the training's output.
    """
    whole = measured(rows) if what is None else what
    written = evaluation.emit(whole)
    digests = {"model": OUTPUT} if inputs is None else inputs

    def edited(lockfile: Lockfile) -> Lockfile:
        more = tuple(
            locked(name, digest)
            for name, digest in digests.items()
            if name not in {one.name for one in lockfile.inputs}
        )
        kept = (replace(one, digest=digests.get(one.name, one.digest)) for one in lockfile.inputs)
        ordered = sorted((*kept, *more), key=lambda one: one.name)
        return replace(lockfile, run="look", inputs=tuple(ordered))

    scene = Scene("local", 2)
    evaluate(
        results({"results.json": written if inside is None else inside}),
        reported(records=(rows,)),
        lambda scene: scene.edit("lockfile", edited),
        *changes,
    )(scene)
    return scene.get("certificate"), written if data is None else data


def evaluated_further() -> Given:
    """Return an evaluation of a model that was trained from the ancestor's."""
    scene = Scene("local", 2)
    ancestor(lambda _: None, version=2)(scene)
    digest = scene.get("statement").outputs["model"].digest
    return evaluated(measured(base=replace(OF_MODEL, digest=digest)), inputs={"model": digest})


def evaluated_adapter(base: Digest = BASE) -> Given:
    """Return an evaluation of the training's output as an adapter, loaded on this base."""
    adapter = Weights(input="adapter", digest=OUTPUT, inside="")
    what = measured(base=Weights(input="model", digest=base, inside=""), adapter=adapter)
    return evaluated(
        what,
        value("adapterInput", named("adapter")),
        inputs={"adapter": OUTPUT, "model": base},
    )


def with_number(text: str) -> Given:
    """Return results in which the loss is this text."""
    whole = json.loads(evaluation.emit(measured()))
    written = json.dumps(whole, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    forged = written.replace(b'"loss":2.25', f'"loss":{text}'.encode())
    return evaluated(inside=forged, data=forged)


def given(
    *evidence: Callable[[], Given], demands: Sequence[EvaluationDemand] = (LOSS,), **more: Any
) -> Change:
    """Give the verifier these evaluations and a policy that demands some."""

    def changed(scene: Scene) -> None:
        if scene.version > 1:
            value("baseInput", named("model"))(scene)
        scene.edit("policy", lambda policy: replace(policy, evaluations=tuple(demands), **more))
        scene.audits = [one() for one in evidence]

    return changed


def an_audit() -> Given:
    """Return an audit's certificate that names the results of an evaluation."""
    data = evaluation.emit(measured())
    scene = audit_scene(counted())
    scene.put("outputs", {"results": {"results.json": data}})
    return scene.get("certificate"), data


def two_outputs(scene: Scene) -> None:
    """Let the training make two models, of which one was evaluated."""
    scene.edit("lockfile", lambda whole: replace(whole, outputs=("model", "other")))
    scene.put(
        "outputs",
        {"model": dict(FILES), "other": dict(FILES) | {"model.safetensors": b"weights, and worse"}},
    )


def of_another_platform(scene: Scene) -> object:
    return scene.put("chain", Scene("qemu").get("chain"))


def demanded(**changes: Any) -> Change:
    return given(evaluated, demands=[replace(LOSS, **changes)])


def row(name: str, check: str, change: Change) -> Attack:
    return Attack(name, check, change, version=2)


ATTACKS = (
    row("no evaluation where one is demanded", PRESENT, given()),
    row("evaluation of another model", PRESENT, given(
        lambda: evaluated(measured(base=replace(OF_MODEL, digest=OTHER)),
                          inputs={"model": OTHER}))),
    row("evaluation of a folder of that digest's input", PRESENT, given(
        lambda: evaluated(measured(base=replace(OF_MODEL, inside="first"))))),
    row("evaluation on other rows", PRESENT, given(lambda: evaluated(rows=OTHER_ROWS))),
    row("evaluation on rows that the builder chose", PRESENT, given(
        lambda: evaluated(rows=SUBSET), demands=[replace(LOSS, samples=1)])),
    row("evaluation with another prompt", PRESENT, given(
        lambda: evaluated(measured(config=Digest("sha256", "d2" * 32))))),
    row("evaluation of another metric", PRESENT, demanded(metric="acc")),
    row("evaluation that failed", PRESENT, given(
        lambda: evaluated(None, reported(exit_code="1")))),
    row("evaluation of another platform", PRESENT, given(
        lambda: evaluated(None, of_another_platform))),
    row("evaluation by a trainer that nobody knows", PRESENT, given(
        lambda: evaluated(None, trainer("other")))),
    row("results that the evaluation's certificate does not name", PRESENT, given(
        lambda: evaluated(measured(loss=9.5), data=evaluation.emit(measured())))),
    row("results of an evaluation about rows that it did not read", PRESENT, given(
        lambda: evaluated(None, reported(records=(OTHER_ROWS,))))),
    row("results about a model that the evaluation did not read", PRESENT, given(
        lambda: evaluated(inputs={"model": OTHER}))),
    row("audit in the place of an evaluation", PRESENT, given(an_audit)),
    row("training in the place of an evaluation", PRESENT, given(
        lambda: (training()[0], evaluation.emit(measured())))),
    row("evaluation of an adapter on another base", PRESENT, given(
        lambda: evaluated_adapter(OTHER))),
    row("evaluation of an adapter on a folder of its base", PRESENT, both(
        given(evaluated_adapter), value("baseInput", named("model/first")))),
    row("evaluation of an adapter whose training names no base", PRESENT, both(
        given(evaluated_adapter), value("baseInput", None))),
    row("evaluation of one of two outputs", PRESENT, both(given(evaluated), two_outputs)),
    row("evaluation of the model that training began with", PRESENT, both(
        ancestor(lambda _: None, version=2), given(evaluated))),
    row("merge of which only the adapter was evaluated", PRESENT, both(
        merge(ancestor(lambda _: None, version=2)),
        given(lambda: evaluated(measured(base=replace(OF_MODEL, digest=OTHER)),
                                inputs={"model": OTHER})))),
    row("results in which the loss is no number", PRESENT, given(lambda: with_number("NaN"))),
    row("results in which the loss is less than any number", PRESENT, given(
        lambda: with_number("-Infinity"))),
    row("results in which the loss is too large for a number", PRESENT, given(
        lambda: with_number("1e999"))),
    row("results in which the loss is a text", PRESENT, given(lambda: with_number('"2.25"'))),
    row("results with two losses", PRESENT, given(lambda: with_number('9.5,"loss":2.25'))),
    row("higher loss than a policy allows", RESULT, demanded(at_most=2.2)),
    row("lower loss than a policy asks for", RESULT, demanded(at_least=2.3)),
    row("evaluation that left out too many rows", RESULT, given(
        lambda: evaluated(measured(left_out=3)))),
    row("evaluation with more tokens of templates than allowed", RESULT,
        demanded(template_tokens=89)),
    row("two evaluations that contradict each other", RESULT, given(
        evaluated, lambda: evaluated(measured(loss=2.75)))),
    row("second of two demanded evaluations that is not good enough", RESULT, given(
        evaluated,
        lambda: evaluated(measured(OTHER_ROWS, loss=3.5), rows=OTHER_ROWS),
        demands=[LOSS, replace(LOSS, task=evaluations.task_of(measured(OTHER_ROWS)))])),
)  # fmt: skip


def unasked(scene: Scene) -> None:
    """Demand an evaluation in the policy and give none."""
    given()(scene)
    scene.audits = None


def itself(scene: Scene) -> None:
    """Appraise the evaluation itself under the policy that demands it."""
    given()(scene)
    data = evaluation.emit(measured())
    other = evaluated()[0]
    scene.put("certificate", other)
    scene.put("outputs", {"results": {"results.json": data}})


def audited_too(scene: Scene) -> None:
    """Demand an audit and an evaluation, and give both."""
    given(evaluated, looked)(scene)
    value("weightInputs", Value("measured", "model"))(scene)
    scene.edit("policy", lambda policy: replace(policy, audits=(DOMAINS,)))


FLOPS = Claim(name="totalFlops", at_least=1)
# Odd but right: name, change, version, verdict, and the first check that is left open.
RIGHT: tuple[tuple[str, Change, int, str, str | None], ...] = (
    ("evaluated", given(evaluated), 2, "passed", None),
    ("evaluated, of version 1", given(evaluated), 1, "passed", None),
    ("evaluated, as an adapter on its base", given(evaluated_adapter), 2, "passed", None),
    ("evaluated, exactly within the bounds", demanded(at_least=2.25, at_most=2.25), 2, "passed",
     None),
    ("evaluated, with a bound on one side", demanded(at_least=None), 2, "passed", None),
    ("evaluated, beside evaluations that do not count", given(
        lambda: evaluated(rows=OTHER_ROWS), evaluated,
        lambda: evaluated(None, reported(exit_code="1")), an_audit), 2, "passed", None),
    ("evaluated, without a token of a template", given(
        lambda: evaluated(measured(template_tokens=0)),
        demands=[replace(LOSS, template_tokens=None)]), 2, "passed", None),
    ("evaluated, for whose templates no bound is given", demanded(template_tokens=None), 2, "none",
     RESULT),
    ("evaluated, and its ancestor is not", both(
        ancestor(lambda _: None, version=2), given(evaluated_further)), 2, "passed", None),
    ("evaluated and audited", audited_too, 2, "passed", None),
    ("evaluated, with claims that no evaluation makes", given(evaluated, claims=(FLOPS,)), 2,
     "passed", None),
    ("evaluation that a policy demands, judged itself", itself, 2, "passed", None),
    ("evaluations that nobody gave", unasked, 2, "none", PRESENT),
)  # fmt: skip
