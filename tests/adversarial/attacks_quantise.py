"""Attacks on certificates of quantisations: of no model, of another, or of a trained one."""

from dataclasses import replace

from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import RunReport, Value
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_merge import combine
from tests.adversarial.attacks_results import Change, audit, facts, trainer
from tests.adversarial.attacks_run import input_code, reported, value, words
from tests.adversarial.forger import FACTS, Scene

QUANTISE = trainer("llmcompressor")


def quantise(*changes: Change) -> Change:
    """Turn the scene into a quantisation of its model, calibrated on its rows, with a report to
    match.
    """

    def report(trained: RunReport) -> RunReport:
        values = {
            "modelInput1": Value("measured", "model"),
            "numbersComputedAgain": Value("measured", 128),
            "quantisationScheme": Value("measured", "W4A16"),
            "quantisationSeed": Value("measured", "00" * 32),
            "tensorsChanged": Value("measured", 2),
            "tensorsNew": Value("measured", 2),
            "tensorsUnchanged": Value("measured", 3),
        }
        return RunReport(
            version=trained.version, exit_code="0", values=values, **facts(trained.version)
        )

    def edited(scene: Scene) -> None:
        QUANTISE(scene)
        scene.edit("report", report)
        for change in changes:
            change(scene)

    return edited


def _model_alone(scene: Scene) -> None:
    def alone(locked: Lockfile) -> Lockfile:
        return replace(locked, inputs=tuple(i for i in locked.inputs if i.name != "alpaca"))

    scene.edit("lockfile", alone)
    scene.edit("report", lambda report: replace(report, records=()))


def to_nearest(*changes: Change) -> Change:
    """As `quantise`, by rounding to the nearest: no rows are read, and the model is alone."""
    return quantise(_model_alone, *changes)


def row(name: str, change: Change, *, check: str = "outputs.derived") -> Attack:
    return Attack(name, check, change, version=2)


ATTACKS = (
    row("training that is called a quantisation", QUANTISE),
    row("a quantisation that is called a training", quantise(trainer("axolotl")),
        check="outputs.trained"),
    row("a quantisation that is called an audit", quantise(trainer("audit")),
        check="outputs.results"),
    row("an audit that is called a quantisation", audit(QUANTISE)),
    row("a quantisation that is called a merge of models", quantise(trainer("mergekit"))),
    row("a quantisation that is called a merge of an adapter", quantise(trainer("axolotl-merge"))),
    row("a merge of models that is called a quantisation", combine(QUANTISE)),
    row("a quantisation with a loss", quantise(reported(loss=FACTS["loss"]))),
    row("a quantisation that changed nothing", quantise(
        value("tensorsChanged", Value("measured", 0)), value("tensorsNew", Value("measured", 0))
    )),
    row("a quantisation that was not compared", quantise(value("tensorsUnchanged", None))),
    row("a quantisation that the trainer compared", quantise(
        value("tensorsChanged", Value("self-reported", 2)),
    )),
    row("a quantisation to weights that cannot be read", quantise(
        value("weightsUnread", Value("measured", "model.safetensors: no header")),
    )),
    row("a quantisation with code of an input", quantise(
        input_code(allow_pickle=True), words("pickle"),
    )),
    row("a quantisation that names no model", quantise(value("modelInput1", None))),
    row("a quantisation of what is no input", quantise(
        value("modelInput1", Value("measured", "other")),
    )),
    row("a quantisation of its own config", quantise(
        value("modelInput1", Value("measured", "config")),
    )),
    row("a quantisation of a model that the trainer names", quantise(
        value("modelInput1", Value("self-reported", "model")),
    )),
    row("a quantisation of two models", quantise(
        value("modelInput2", Value("measured", "alpaca")),
    )),
    row("a quantisation that calls its model a base", quantise(
        value("baseInput", Value("measured", "model")),
    )),
    row("a quantisation of a base alone", quantise(
        value("baseInput", Value("measured", "model")), value("modelInput1", None),
    )),
    row("a quantisation with an adapter", quantise(
        value("adapterInput", Value("measured", "alpaca")),
    )),
    row("a quantisation that does not say what it read an input for", quantise(
        reported(records=()),
    )),
)  # fmt: skip
