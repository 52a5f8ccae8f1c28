"""Attacks on certificates of merges: of no adapter, of other inputs, or of a trained model.

The last rows are about merges of whole models, by mergekit.
"""

from dataclasses import replace

from aicert.formats.run_report import RunReport, Value
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_results import Change, audit, facts, trainer
from tests.adversarial.attacks_run import input_code, reported, value, words
from tests.adversarial.forger import FACTS, Scene

MERGE = trainer("axolotl-merge")


def merge(*changes: Change) -> Change:
    """Turn the scene into a merge of its other input into its base, with a report to match."""

    def report(trained: RunReport) -> RunReport:
        values = {
            "adapterInput": Value("measured", "alpaca/sub"),
            "baseInput": Value("measured", "model"),
            "tensorsChanged": Value("measured", 2),
            "tensorsNew": Value("measured", 0),
            "tensorsTargeted": Value("measured", 2),
            "tensorsUnchanged": Value("measured", 3),
        }
        return RunReport(version=trained.version, exit_code="0", values=values)

    def edited(scene: Scene) -> None:
        MERGE(scene)
        scene.edit("report", report)
        for change in changes:
            change(scene)

    return edited


def combine(*changes: Change) -> Change:
    """Turn the scene into a merge of its two inputs by mergekit, with a report to match."""

    def models(merged: RunReport) -> RunReport:
        values = {
            key: one
            for key, one in merged.values.items()
            if key not in ("adapterInput", "tensorsTargeted")
        }
        more = {
            "mergeMethod": Value("measured", "linear"),
            "mergeSeed": Value("measured", "00" * 32),
            "modelInput1": Value("measured", "alpaca/sub"),
            "modelInput2": Value("measured", "model"),
            "numbersComputedAgain": Value("measured", 128),
        }
        return replace(merged, values=values | more)

    return merge(trainer("mergekit"), lambda scene: scene.edit("report", models), *changes)


def row(name: str, change: Change, *, check: str = "outputs.derived", version: int = 2) -> Attack:
    return Attack(name, check, change, version=version)


ATTACKS = (
    row("training that is called a merge", MERGE),
    row("a merge that is called a training", merge(trainer("axolotl")), check="outputs.trained"),
    row("a merge that is called an audit", merge(trainer("audit")), check="outputs.results"),
    row("an audit that is called a merge", audit(MERGE)),
    row("a merge that read rows", merge(reported(**facts(2)))),
    row("a merge with a loss", merge(reported(loss=FACTS["loss"]))),
    row("a merge that changed nothing", merge(value("tensorsChanged", Value("measured", 0)))),
    row("a merge with new tensors", merge(value("tensorsNew", Value("measured", 1)))),
    row("a merge of new tensors only", merge(
        value("tensorsChanged", Value("measured", 0)), value("tensorsNew", Value("measured", 1))
    )),
    row("a merge that was not compared", merge(value("tensorsUnchanged", None))),
    row(
        "a merge that the trainer compared",
        merge(value("tensorsChanged", Value("self-reported", 2))),
    ),
    row(
        "a merge of weights that cannot be read",
        merge(value("weightsUnread", Value("measured", "model.safetensors: no header"))),
    ),
    row("a merge with code of an input", merge(input_code(allow_pickle=True), words("pickle"))),
    row("a merge that names no base", merge(value("baseInput", None))),
    row("a merge that names no adapter", merge(value("adapterInput", None))),
    row("a merge into what is no input", merge(value("baseInput", Value("measured", "other")))),
    row("a merge into its own config", merge(value("baseInput", Value("measured", "config")))),
    row(
        "a merge whose adapter the trainer names",
        merge(value("adapterInput", Value("self-reported", "alpaca"))),
    ),
    row("a merge of one input with itself", merge(
        value("adapterInput", Value("measured", "model")),
    )),
    row("training that is called a merge of models", trainer("mergekit")),
    row("a merge of models that is called one of an adapter", combine(MERGE)),
    row("a merge of an adapter that is called one of models", merge(trainer("mergekit"))),
    row("a merge of models that is called a training", combine(trainer("axolotl")),
        check="outputs.trained"),
    row("a merge of models that names no base", combine(value("baseInput", None))),
    row("a merge of models that leaves an input out", combine(
        value("modelInput1", Value("measured", "model/more")),
    )),
    row("a merge of one model with itself", combine(
        value("modelInput1", Value("measured", "model")),
    )),
    row("a merge of models of which one is no input", combine(
        value("modelInput3", Value("measured", "other")),
    )),
    row("a merge of models of which the trainer names one", combine(
        value("modelInput1", Value("self-reported", "alpaca/sub")),
    )),
    row("a merge of models that is one of them", combine(
        value("tensorsChanged", Value("measured", 0)),
    )),
    row("a merge of models with tensors from elsewhere", combine(
        value("tensorsNew", Value("measured", 1)),
    )),
    row("a merge of models that read rows", combine(reported(**facts(2)))),
)  # fmt: skip
