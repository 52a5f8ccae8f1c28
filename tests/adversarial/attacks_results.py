"""Attacks on certificates of audits: results that are none, of nothing, or a model's."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aicert.formats.run_report import RunReport, Value
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_run import reported
from tests.adversarial.forger import FACTS, Scene

Change = Callable[[Scene], object]
RESULTS = {"results.json": b'{"version":1}\n'}


def trainer(name: str) -> Change:
    return lambda scene: scene.edit("lockfile", lambda locked: replace(locked, trainer=name))


def audit(*changes: Change) -> Change:
    """An audit of the scene's rows: another trainer, output and report."""

    def report(trained: RunReport) -> RunReport:
        values = {"wallSeconds": Value("measured", 2.5)}
        return RunReport(
            version=trained.version, exit_code="0", values=values, **facts(trained.version)
        )

    def edited(scene: Scene) -> None:
        trainer("audit")(scene)
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
    row("results of a training", audit(trainer("axolotl")), check="outputs.trained"),
)
