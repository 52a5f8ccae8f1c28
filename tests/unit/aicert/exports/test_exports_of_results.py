"""Exports of what is no training: results are no model, and merging is no training."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from aicert.errors import ConfigError
from aicert.exports import card, facts, files
from aicert.formats.lockfile import Lockfile
from tests.adversarial.attacks_merge import merge
from tests.adversarial.attacks_results import audit, evaluate, trainer
from tests.adversarial.forger import Scene

DATA_SET = "hf:datasets/org/alpaca@" + "1" * 40


def of_scene(change: Callable[[Scene], object]) -> facts.Facts:
    scene = Scene("local", 2)
    change(scene)
    return facts.read(scene.get("file"))


@pytest.mark.parametrize("change", [audit(), evaluate(), trainer("other")])
def test_results_are_not_called_a_model(change: Callable[[Scene], object]) -> None:
    read = of_scene(change)
    bom = json.loads(files.exports(read)["bom.cdx.json"])
    output = bom["metadata"]["component"]
    assert (output["type"], output["data"][0]["type"]) == ("data", "other")
    assert not {"modelCard", "pedigree"} & output.keys()
    graph = json.loads(files.exports(read)["bom.spdx.json"])["@graph"]
    inputs = [each for each in graph if each["type"] == "ai_AIPackage"]
    assert [each["name"] for each in inputs] == ["model"]
    relations = {each["relationshipType"] for each in graph if each["type"] == "Relationship"}
    assert relations == {"hasInput", "hasOutput", "hasEvidence", "contains"}


def from_the_hub(scene: Scene) -> None:
    """Lock the rows from a data set on the hub."""

    def moved(locked: Lockfile) -> Lockfile:
        inputs = [
            replace(item, source=DATA_SET, uri=DATA_SET) if item.name == "alpaca" else item
            for item in locked.inputs
        ]
        return replace(locked, inputs=tuple(inputs))

    scene.edit("lockfile", moved)


def test_what_is_merged_is_not_trained_on() -> None:
    trained = of_scene(from_the_hub)
    assert "datasets:" in card.update("", trained, min(trained.statement.outputs))[0]
    read = of_scene(merge(from_the_hub))
    assert "datasets:" not in card.update("", read, min(read.statement.outputs))[0]
    bom = json.loads(files.exports(read)["bom.cdx.json"])
    assert bom["metadata"]["component"]["type"] == "machine-learning-model"
    assert "modelParameters" not in bom["metadata"]["component"]["modelCard"]
    assert b"trainedOn" not in files.exports(read)["bom.spdx.json"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (audit(), "the certificate is an audit's, and not a model's"),
        (evaluate(), "the certificate is an evaluation's, and not a model's"),
        (trainer("other"), "trainer other is not known to make a model"),
    ],
)
def test_a_card_is_of_a_model(change: Callable[[Scene], object], why: str) -> None:
    read = of_scene(change)
    with pytest.raises(ConfigError, match=why):
        card.update("", read, min(read.statement.outputs))
