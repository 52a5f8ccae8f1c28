"""Attacks on certificates of conversions: of no model, to another file, or of a trained one."""

from dataclasses import replace

from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import RunReport, Value
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_quantise import quantise
from tests.adversarial.attacks_results import Change, audit, trainer
from tests.adversarial.attacks_run import files, input_code, reported, value, words
from tests.adversarial.forger import FACTS, Scene

CONVERT = trainer("convert-hf-to-gguf")
FILE = "model.gguf"
TO_FILE = files(lambda _: {FILE: b"GGUF"})


def convert(*changes: Change) -> Change:
    """Turn the scene into a conversion of its model, with a file and a report to match."""

    def alone(locked: Lockfile) -> Lockfile:
        return replace(locked, inputs=tuple(i for i in locked.inputs if i.name != "alpaca"))

    def report(trained: RunReport) -> RunReport:
        values = {
            "convertSeed": Value("measured", "00" * 32),
            "modelInput1": Value("measured", "model"),
            "numbersComputedAgain": Value("measured", 128),
            "tensorsChanged": Value("measured", 21),
            "tensorsNew": Value("measured", 0),
            "tensorsUnchanged": Value("measured", 0),
            "weightType": Value("measured", "q8_0"),
        }
        return RunReport(version=trained.version, exit_code="0", values=values)

    def edited(scene: Scene) -> None:
        CONVERT(scene)
        scene.edit("lockfile", alone)
        TO_FILE(scene)
        scene.edit("report", report)
        for change in changes:
            change(scene)

    return edited


def row(name: str, change: Change, *, check: str = "outputs.derived") -> Attack:
    return Attack(name, check, change, version=2)


ATTACKS = (
    row("training that is called a conversion", CONVERT),
    row("a conversion that is called a training", convert(trainer("axolotl")),
        check="outputs.trained"),
    row("a conversion that is called a merge of models", convert(trainer("mergekit"))),
    row("an audit that is called a conversion", audit(CONVERT)),
    row("a quantisation that is called a conversion", quantise(CONVERT)),
    row("a conversion with a loss", convert(reported(loss=FACTS["loss"]))),
    row("a conversion to nothing", convert(value("tensorsChanged", Value("measured", 0)))),
    row("a conversion with tensors from elsewhere", convert(
        value("tensorsNew", Value("measured", 1)),
    )),
    row("a conversion that was not compared", convert(value("tensorsUnchanged", None))),
    row("a conversion that the trainer compared", convert(
        value("tensorsChanged", Value("self-reported", 21)),
    )),
    row("a conversion with code of an input", convert(
        input_code(allow_pickle=True), words("pickle"),
    )),
    row("a conversion with a file beside the model", convert(
        files(lambda own: own | {"config.json": b"{}"}),
    )),
    row("a conversion to another file", convert(files(lambda _: {"model.safetensors": b"GGUF"}))),
    row("a conversion that names no model", convert(value("modelInput1", None))),
    row("a conversion of what is no input", convert(
        value("modelInput1", Value("measured", "other")),
    )),
    row("a conversion of its own config", convert(
        value("modelInput1", Value("measured", "config")),
    )),
    row("a conversion of a model that the trainer names", convert(
        value("modelInput1", Value("self-reported", "model")),
    )),
    row("a conversion of two models", convert(
        value("modelInput2", Value("measured", "model/more")),
    )),
    row("a conversion that calls its model a base", convert(
        value("baseInput", Value("measured", "model")),
    )),
)  # fmt: skip
