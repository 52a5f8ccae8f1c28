"""Attacks on the number of epochs in a report, and odd numbers that are right."""

from typing import Any

from aicert.appraisal.policy import Claim
from aicert.formats.run_report import Value
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_compute import both, counted_units
from tests.adversarial.attacks_run import value, wants
from tests.adversarial.attacks_version_2 import report_json
from tests.adversarial.forger import Scene

EPOCHS = "countedEpochs"


def counted_rows(epochs: object = 3.0, origin: Any = "in-trainer") -> Any:
    """Report what the image's code counted in the trainer's process."""
    numbers = {EPOCHS: epochs, "countedRows": 768, "trainingRows": 256, "countedSteps": 96}

    def change(scene: Scene) -> None:
        counted_units()(scene)
        for key, number in numbers.items():
            value(key, Value(origin, number))(scene)  # type: ignore[arg-type]

    return change


def epochs(at_least: float, *origins: str) -> Any:
    believed = {"origins": frozenset(origins)} if origins else {}
    return wants(Claim(name=EPOCHS, at_least=at_least, **believed))  # type: ignore[arg-type]


def _of_2(name: str, *changes: Any, check: str = "policy.claims") -> Attack:
    return Attack(name, check, both(*changes), version=2)


def _form(name: str, change: Any) -> Attack:
    return Attack(name, "statement.form", report_json(change), version=2)


def _in_trainer(**numbers: object) -> Any:
    def change(report: Any) -> None:
        for key, number in numbers.items():
            report["values"][key] = {"origin": "in-trainer", "value": number}

    return change


_ALL: dict[str, object] = {
    EPOCHS: 3.0, "countedRows": 768, "trainingRows": 256, "countedSteps": 96,
}  # fmt: skip
ATTACKS: tuple[Attack, ...] = (
    _of_2(
        "fewer epochs than wanted, counted in the trainer",
        counted_rows(2.996),
        epochs(3, "in-trainer"),
    ),
    _of_2("epochs counted in the trainer where measured is wanted", counted_rows(), epochs(3)),
    _of_2(
        "epochs that the trainer reports where the image's count is wanted",
        counted_rows(origin="self-reported"),
        epochs(3, "in-trainer"),
    ),
    _of_2("epochs that nobody counted", epochs(1, "in-trainer")),
    _form("more epochs than the rows give", _in_trainer(**{**_ALL, EPOCHS: 3.001})),
    _form("epochs counted without their rows", _in_trainer(countedEpochs=3.0)),
    _form("losses counted in the trainer", _in_trainer(**_ALL, losses=[1.0])),
    _form("epochs of no rows", _in_trainer(**{**_ALL, "trainingRows": 0})),
    _form("epochs in words", _in_trainer(**{**_ALL, EPOCHS: "3"})),
    _form("half a row that was counted", _in_trainer(**{**_ALL, "countedRows": 768.5})),
    _form("fewer steps than none", _in_trainer(**{**_ALL, "countedSteps": -1})),
)
# Name, change, and the check that stays open.
RIGHT: tuple[tuple[str, Any, str | None], ...] = (
    (
        "as many epochs as wanted, counted in the trainer",
        both(counted_rows(), epochs(3, "in-trainer")),
        None,
    ),
)
