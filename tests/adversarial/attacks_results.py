"""Attacks on certificates of audits and evaluations: bad results, no input, or a model instead."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aicert.formats.run_report import RunReport, Value
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_run import reported, value
from tests.adversarial.forger import FACTS, Scene

Change = Callable[[Scene], object]
EVALUATE = "axolotl-evaluate"
RESULTS = {"results.json": b'{"version":1}\n'}


def trainer(name: str) -> Change:
    return lambda scene: scene.edit("lockfile", lambda locked: replace(locked, trainer=name))


def audit(*changes: Change) -> Change:
    """Turn the scene into an audit of its rows, with its own trainer, output and report."""

    return _results_of("audit", {"wallSeconds": Value("measured", 2.5)}, changes)


def evaluate(*changes: Change) -> Change:
    """Turn the scene into an evaluation of its model on its rows.

    It has its own trainer, output and report.
    """
    values = {"baseInput": Value("measured", "model"), "wallSeconds": Value("measured", 2.5)}
    return _results_of(EVALUATE, values, changes)


def _results_of(name: str, values: dict[str, Value], changes: tuple[Change, ...]) -> Change:
    def report(trained: RunReport) -> RunReport:
        return RunReport(
            version=trained.version, exit_code="0", values=values, **facts(trained.version)
        )

    def edited(scene: Scene) -> None:
        trainer(name)(scene)
        scene.edit("lockfile", lambda locked: replace(locked, outputs=("results",)))
        scene.put("outputs", {"results": dict(RESULTS)})
        scene.edit("report", report)
        for change in changes:
            change(scene)

    return edited


def facts(version: int) -> dict[str, Any]:
    return {"records": FACTS["records"]} if version > 1 else {}


def results(files: dict[str, bytes]) -> Change:
    return lambda scene: scene.put("outputs", {"results": files})


def two_outputs(scene: Scene) -> None:
    scene.edit("lockfile", lambda locked: replace(locked, outputs=("more", "results")))
    scene.put("outputs", {"more": dict(RESULTS), "results": dict(RESULTS)})


def row(name: str, change: Change, *, check: str = "outputs.results", version: int = 2) -> Attack:
    return Attack(name, check, change, version=version)


def named(text: str) -> Value:
    return Value("measured", text)


TRAINED, DERIVED = "outputs.trained", "outputs.derived"
WEIGHTS = {"model.safetensors": b"weights after training"}
ATTACKS = (
    row("training that is called an audit", trainer("audit")),
    row("weights beside an audit's results", audit(results(RESULTS | WEIGHTS))),
    row("results under another name", audit(results({"results.txt": b"{}"}))),
    row("an audit with two outputs", audit(two_outputs)),
    row("an audit of no rows", audit(reported(records=()))),
    row("an audit that does not say what it read", audit(), version=1),
    row("an audit with a loss", audit(reported(loss=FACTS["loss"]))),
    row("an audit of unchanged weights", audit(reported(unchanged_weights=("a.safetensors",)))),
    row("training that is called an evaluation", trainer(EVALUATE)),
    row("an audit that is called an evaluation", audit(trainer(EVALUATE))),
    row("an evaluation that is called a training", evaluate(trainer("axolotl")), check=TRAINED),
    row("an evaluation that is called a merge", evaluate(trainer("axolotl-merge")), check=DERIVED),
    row("weights beside an evaluation's results", evaluate(results(RESULTS | WEIGHTS))),
    row("an evaluation on no rows", evaluate(reported(records=()))),
    row("an evaluation with a loss of its own", evaluate(reported(loss=FACTS["loss"]))),
    row("an evaluation of no model", evaluate(value("baseInput", None))),
    row("an evaluation of what is no input", evaluate(value("baseInput", named("other")))),
    row("an evaluation of its own config", evaluate(value("baseInput", named("config")))),
    row(
        "an evaluation of a model that the trainer names",
        evaluate(value("baseInput", Value("self-reported", "model"))),
    ),
    row(
        "an evaluation of an adapter that is no input",
        evaluate(value("adapterInput", named("other"))),
    ),
    row("results of a training", audit(trainer("axolotl")), check=TRAINED),
)
