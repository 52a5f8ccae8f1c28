"""The config of a merge by mergekit: a closed list of its keys, and models that are inputs."""

import pytest

from aicert.errors import ConfigError
from enclave_runner.inputs.references import Reference
from enclave_runner.mergekit import settings

FOLDERS = {"config": False, "one": True, "two": True}
THREE = FOLDERS | {"three": True}
LINEAR = """
merge_method: linear
models:
- {model: "input:one/best", parameters: {weight: 0.5}}
- {model: "input:two", parameters: {weight: 1}}
"""
SLERP = """
merge_method: slerp
base_model: input:one
models: [{model: "input:one"}, {model: "input:two"}]
parameters: {t: 0.25}
dtype: float32
out_dtype: bfloat16
"""
TIES = """
merge_method: ties
base_model: input:one
models:
- {model: "input:two", parameters: {weight: 0.5, density: 0.25}}
- {model: "input:three", parameters: {weight: 0.5}}
parameters: {normalize: false, lambda: 2}
"""


def place(name: str) -> dict[str, object]:
    return {"model": {"path": f"/aicert/inputs/{name}"}}


def test_linear_reads_each_models_weight_and_takes_the_first_as_base() -> None:
    read = settings.read(LINEAR.encode(), FOLDERS)
    first = Reference(key="models[0].model", name="one", inside="best", role="model")
    assert read.base == first
    assert [each.name for each in read.references] == ["one", "two"]
    assert read.effective() == {
        "merge_method": "linear",
        "base_model": place("one/best"),
        "models": [
            {"model": place("one/best"), "parameters": {"weight": 0.5}},
            {"model": place("two"), "parameters": {"weight": 1.0}},
        ],
        "parameters": {"normalize": True},
    }


def test_slerp_reads_its_share_and_types() -> None:
    read = settings.read(SLERP.encode(), FOLDERS)
    assert read.effective() == {
        "merge_method": "slerp",
        "base_model": place("one"),
        "models": [{"model": place(name), "parameters": {}} for name in ("one", "two")],
        "parameters": {"t": 0.25},
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    assert settings.read(SLERP.replace("{t: 0.25}", "{}").encode(), FOLDERS).t == 0.5


def test_ties_counts_changes_from_a_base_that_is_none_of_its_models() -> None:
    read = settings.read(TIES.encode(), THREE)
    assert [each.name for each in read.references] == ["one", "two", "three"]
    document = read.effective()
    assert document["parameters"] == {"lambda": 2.0, "normalize": False}
    assert document["models"] == [
        {"model": place("two"), "parameters": {"density": 0.25, "weight": 0.5}},
        {"model": place("three"), "parameters": {"density": 1.0, "weight": 0.5}},
    ]


def test_the_share_of_slerp_may_differ_by_layer_and_by_tensor() -> None:
    gradient = SLERP.replace("0.25", "[0, 0.5, 1]")
    assert settings.read(gradient.encode(), FOLDERS).t == [0.0, 0.5, 1.0]
    filters = SLERP.replace("0.25", "[{filter: self_attn, value: [0, 1]}, {value: 0.5}]")
    assert settings.read(filters.encode(), FOLDERS).t == [
        {"filter": "self_attn", "value": [0.0, 1.0]},
        {"value": 0.5},
    ]


MANY = "models: [" + ", ".join(['{model: "input:two"}'] * 9) + "]"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("a: [", r"line \d+: "),
        ("- 1", "not a mapping with merge_method and models"),
        (LINEAR + "slices: []", "'slices': a merge has no such key"),
        (LINEAR + "tokenizer_source: base", "'tokenizer_source': a merge has no such key"),
        (LINEAR + "chat_template: auto", "'chat_template': a merge has no such key"),
        (LINEAR.replace("linear", "dare_ties"), "merge_method: must be one of linear, slerp, ties"),
        (LINEAR.replace("linear", "[linear]"), "merge_method: must be one of"),
        ("merge_method: linear", "models: must be a list of at most 8 models"),
        ("merge_method: linear\nmodels: []", "models: must be a list of at most 8 models"),
        ("merge_method: linear\n" + MANY, "models: must be a list of at most 8 models"),
        ("merge_method: linear\nmodels: [x]", r"models\[0\]: must be a mapping"),
        (LINEAR.replace("input:two", "org/name"), r"models\[1\]\.model: must be an `input:`"),
        (LINEAR.replace("input:two", "/models/two"), "must be an `input:` reference"),
        (LINEAR.replace("input:two", "input:two+input:one"), "must be an `input:` reference"),
        (LINEAR.replace("input:two", "input:six"), "declares no input 'six'"),
        (LINEAR.replace("input:two", "input:one/best"), "a model is named twice"),
        (LINEAR.replace("{weight: 1}", "{}"), r"models\[1\]\.parameters\.weight: each model of"),
        (LINEAR.replace("{weight: 1}", "{weight: x}"), r"models\[1\]\.parameters\.weight: must be"),
        (LINEAR.replace("{weight: 1}", "{weight: 0}"), r"weight: must not be 0"),
        (LINEAR.replace("{weight: 1}", "{weight: true}"), r"weight: must be a number"),
        (LINEAR.replace("{weight: 1}", "{weight: .nan}"), "a number that is not finite"),
        (LINEAR.replace("{weight: 1}", "{weight: 1e7}"), r"weight: must be a number, at most"),
        (LINEAR.replace("{weight: 1}", "{weight: [0, 1]}"), r"weight: must be a number"),
        (LINEAR.replace("weight: 1}", "weight: 1, density: 1}"), "'density': a merge has no such"),
        (LINEAR.replace("weight: 1}", "weight: -0.5}"), "the weights add up to 0"),
        (LINEAR + "base_model: input:two/x", "base_model: must be one of models"),
        (LINEAR + "parameters: {normalize: 1}", "normalize: must be true or false"),
        (LINEAR + "parameters: {t: 1}", "'t': a merge has no such key"),
        (LINEAR + "parameters: [1]", "parameters: must be a mapping"),
        (LINEAR + "dtype: int8", "dtype: must be one of bfloat16, float16, float32"),
        (LINEAR + "dtype: [x]", "dtype: must be one of"),
        (LINEAR.replace('- {model: "input:two", parameters: {weight: 1}}', ""), "at least two"),
        (SLERP.replace("base_model: input:one", ""), "base_model: must be an `input:` reference"),
        (SLERP.replace(', {model: "input:two"}', ""), "slerp merges exactly two models"),
        (SLERP.replace("{t: 0.25}", "{t: 1.5}"), r"parameters\.t: must be from 0 to 1"),
        (SLERP.replace("{t: 0.25}", "{t: []}"), r"parameters\.t: must have at most 1000 values"),
        (SLERP.replace("0.25", "[{filter: x, value: 1}]"), "the last entry must have no filter"),
        (SLERP.replace("0.25", "[{filter: 1, value: 1}, {value: 1}]"), "part of a tensor's name"),
        (SLERP.replace("0.25", "[{value: []}]"), r"t\[0\]\.value: must have at most 1000 values"),
        (SLERP.replace("0.25", "[{value: x}]"), r"t\[0\]\.value: must be a number"),
        (SLERP.replace("0.25", "[{value: 1}, 2]"), r"t\[1\]: must be a mapping"),
        (TIES.replace("input:one", "input:two"), "ties merges changes from base_model"),
        (TIES.replace("density: 0.25", "density: 0"), "density: must be above 0 and at most 1"),
    ],
)
def test_anything_else_is_refused(config: str, message: str) -> None:
    folders = THREE if "ties" in config else FOLDERS
    with pytest.raises(ConfigError, match=message):
        settings.read(config.encode(), folders)


def test_a_hint_says_what_a_mapping_may_have() -> None:
    wrong = LINEAR.replace("{weight: 1}", "{weight: 1, epsilon: 1}")
    with pytest.raises(ConfigError) as caught:
        settings.read(wrong.encode(), FOLDERS)
    assert caught.value.hint == "models[1].parameters has weight"
    with pytest.raises(ConfigError) as caught:
        models = SLERP.replace('"input:two"}', '"input:two", parameters: {epsilon: 1}}')
        settings.read(models.encode(), FOLDERS)
    assert caught.value.hint == "remove models[1].parameters"


def test_an_input_that_nothing_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match="other inputs: three"):
        settings.read(LINEAR.encode(), THREE)
