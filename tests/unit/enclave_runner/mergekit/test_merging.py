"""What a merge by mergekit reads, and which output is one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from aicert.errors import LockError
from aicert.files.tree import read_tree
from aicert.formats.run_report import RunReport
from enclave_runner.inputs.measure import MeasuredInput, folders
from enclave_runner.merge.derivation import DerivedModel
from enclave_runner.mergekit import merging, settings
from tests.unit.enclave_runner.merge.test_merging import ended, of
from tests.unit.enclave_runner.mergekit.weights import save
from tests.unit.rules.project.one_run import matrices

LINEAR = """
merge_method: linear
models:
- {model: "input:one", parameters: {weight: 1}}
- {model: "input:two", parameters: {weight: 1}}
"""
ONE = {"first": (1.0, 2.0, 3.0), "second": (0.5,) * 70}
TWO = {"first": (3.0, 2.0, 1.0), "second": (1.5,) * 70}
MEAN = {"first": (2.0, 2.0, 2.0), "second": (1.0,) * 70}
SEED = bytes(32)
CONFIG = {"model_type": "llama", "torch_dtype": "float32"}


def write(folder: Path, tensors: Mapping[str, Sequence[float]], dtype: str = "F32") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    save(folder / "model.safetensors", dtype, **tensors)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> list[MeasuredInput]:
    return [of(write(tmp_path / "one", ONE)), of(write(tmp_path / "two", TWO))]


def prepared(models: list[MeasuredInput], folder: Path, config: str = LINEAR) -> merging.Prepared:
    named = settings.read(config.encode(), folders(models))
    return merging.prepare(named, models, folder / "models")


def reported(
    models: list[MeasuredInput], folder: Path, config: str = LINEAR, seed: bytes = SEED
) -> RunReport:
    """Return the report on the files in `folder`/out."""
    out = folder / "out"
    output = DerivedModel(folder=out, files=read_tree(out), seed=seed)
    given = prepared(models, folder, config)
    return merging.MERGE.report_of(given, ended("0", out), models, output)


def test_the_child_sees_the_models_and_the_base_gives_the_other_files(
    models: list[MeasuredInput], tmp_path: Path
) -> None:
    given = prepared(models, tmp_path)
    files = ("config.json", "model.safetensors", "tokenizer.json")
    assert sorted(given.models.shown) == [
        f"{name}/{file}" for name in ("one", "two") for file in files
    ]
    assert sorted(given.others) == ["config.json", "tokenizer.json"]
    assert given.models.weights["/aicert/inputs/one"] == (tmp_path / "one" / "model.safetensors",)


@pytest.mark.parametrize(
    ("tensors", "dtype", "message"),
    [
        ({"first": TWO["first"]}, "F32", "'two' .*two has no tensor 'second'"),
        (TWO | {"more": (1.0,)}, "F32", "base has no tensor 'more'"),
        (TWO | {"first": (1.0,)}, "F32", r"'first' has shape \(1,\), but \(3,\) in the base"),
        (TWO, "F16", "'first' has type F16, but F32 in the base"),
    ],
)
def test_models_that_are_not_alike_are_refused(
    models: list[MeasuredInput],
    tmp_path: Path,
    tensors: Mapping[str, Sequence[float]],
    dtype: str,
    message: str,
) -> None:
    save(tmp_path / "two" / "model.safetensors", dtype, **tensors)
    with pytest.raises(LockError, match=f"cannot be merged with the base: .*{message}|{message}"):
        prepared([models[0], of(tmp_path / "two")], tmp_path)


def test_models_of_several_types_need_one_to_compute_in(
    models: list[MeasuredInput], tmp_path: Path
) -> None:
    save(tmp_path / "two" / "model.safetensors", "F16", **TWO)
    assert prepared([models[0], of(tmp_path / "two")], tmp_path, LINEAR + "dtype: float32\n")


def test_a_quantised_model_is_refused(models: list[MeasuredInput], tmp_path: Path) -> None:
    for name in ("one", "two"):
        path = tmp_path / name / "model.safetensors"
        path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))
    with pytest.raises(LockError, match="'first' has numbers of type I32") as caught:
        prepared([of(tmp_path / "one"), of(tmp_path / "two")], tmp_path)
    assert caught.value.hint == "name the model before quantisation"


@pytest.mark.parametrize(
    ("tensor_name", "why"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "is computed, not learned, and mergekit"),
        ("h.0.attn.bias", "is computed, not learned, and mergekit leaves it out"),
        ("wte.weight", "lacks the prefix with which mergekit stores it"),
    ],
)
def test_tensors_that_mergekit_leaves_out_or_renames_are_refused_before_it_runs(
    tmp_path: Path, tensor_name: str, why: str
) -> None:
    for name in ("one", "two"):
        folder = write(tmp_path / name, ONE)
        (folder / "model.safetensors").write_bytes(matrices(**{tensor_name: (2, 2)}))
    with pytest.raises(LockError, match=f"'one' cannot be merged: .*'{tensor_name}' {why}") as seen:
        prepared([of(tmp_path / "one"), of(tmp_path / "two")], tmp_path)
    assert seen.value.hint == "load the model with Transformers, save it again, then ./doit lock"


def test_a_bias_with_the_name_of_a_mask_is_merged(tmp_path: Path) -> None:
    models = [of(write(tmp_path / name, {"h.0.attn.bias": (1.0, 2.0)})) for name in ("one", "two")]
    assert prepared(models, tmp_path)


def test_weights_in_several_files_have_an_index(
    models: list[MeasuredInput], tmp_path: Path
) -> None:
    out = write(tmp_path / "out", MEAN)
    (out / "model.safetensors").unlink()
    index = {name: f"model-{name}.safetensors" for name in MEAN}
    for name, numbers in MEAN.items():
        save(out / index[name], "F32", **{name: numbers})
    with pytest.raises(LockError, match="the weights in 2 files have no index, or several"):
        reported(models, tmp_path)
    (out / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert reported(models, tmp_path).values["tensorsChanged"].data == 2


def test_pickles_are_refused(models: list[MeasuredInput], tmp_path: Path) -> None:
    (tmp_path / "two" / "model.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(LockError, match=r"two/model\.safetensors"):
        prepared([models[0], of(tmp_path / "two")], tmp_path)


def test_a_merge_is_reported_with_its_models(models: list[MeasuredInput], tmp_path: Path) -> None:
    write(tmp_path / "out", MEAN | {"first": (2.0, 2.0, 2.0)})
    report = reported(models, tmp_path)
    values = {key: one.data for key, one in report.values.items() if one.origin == "measured"}
    wanted = {
        "baseInput": "one", "mergeMethod": "linear", "mergeSeed": SEED.hex(), "modelInput1": "one",
        "modelInput2": "two", "numbersComputedAgain": 67, "tensorsChanged": 2, "tensorsNew": 0,
        "tensorsUnchanged": 0, "weightInputs": "one, two", "weightParameters": 73,
    }  # fmt: skip
    assert {key: values[key] for key in wanted} == wanted
    assert (report.records, report.loss, report.removed) == ((), None, ())


def test_an_output_of_another_type_has_it_in_its_config(
    models: list[MeasuredInput], tmp_path: Path
) -> None:
    config = LINEAR + "dtype: bfloat16\n"
    out = write(tmp_path / "out", MEAN, "BF16")
    with pytest.raises(LockError, match=r"the merge went wrong: config\.json is not the base's"):
        reported(models, tmp_path, config)
    (out / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": "bfloat16"}))
    assert reported(models, tmp_path, config).values["tensorsChanged"].data == 2
    for text in ("[]", "{", "[" * 100_000, '"' + "x" * (1 << 20) + '"'):
        (out / "config.json").write_text(text)
        with pytest.raises(LockError, match=r"config\.json is no config"):
            reported(models, tmp_path, config)


def test_a_merge_that_failed_compared_nothing(models: list[MeasuredInput], tmp_path: Path) -> None:
    result = ended("86", tmp_path, violation="it opened a socket")
    output = DerivedModel(folder=tmp_path, files={}, seed=SEED)
    report = merging.MERGE.report_of(prepared(models, tmp_path), result, models, output)
    assert report.exit_code == "86"
    assert "tensorsChanged" not in report.values
    assert report.values["auditViolation"].data == "it opened a socket"


WRONG_NUMBER = (1.0,) * 69 + (1.0001,)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (ONE, "each tensor is one of a model's, so nothing was combined"),
        ({"first": ONE["first"], "second": TWO["second"]}, "so nothing was combined"),
        (MEAN | {"more": (1.0,)}, "1 tensors are no model's: 'more'"),
        ({"first": MEAN["first"]}, "1 tensors are missing: 'second'"),
        (MEAN | {"first": (2.0, 2.0)}, r"'first' has type F32 and shape \(2,\), not F32 and"),
        (MEAN | {"first": (2.0, 2.0, float("nan"))}, "'first' has numbers that are not finite"),
        (MEAN | {"first": (2.0, 2.5, 2.0)}, "number 1 of 'first' is none that linear of these"),
        (MEAN | {"second": ONE["second"]}, "of 'second' is none that linear of these models gives"),
    ],
)
def test_what_is_no_merge_of_these_gets_no_certificate(
    models: list[MeasuredInput],
    tmp_path: Path,
    tensors: Mapping[str, Sequence[float]],
    message: str,
) -> None:
    write(tmp_path / "out", tensors)
    with pytest.raises(LockError, match=f"the merge went wrong: .*{message}|{message}"):
        reported(models, tmp_path)


def test_one_number_is_seen_if_the_seed_draws_it(
    models: list[MeasuredInput], tmp_path: Path
) -> None:
    write(tmp_path / "out", MEAN | {"second": WRONG_NUMBER})
    seen = set()
    for number in range(20):
        try:
            reported(models, tmp_path, seed=bytes([number]) * 32)
        except LockError as error:
            seen.add(error.message)
        else:
            seen.add("")
    # 64 of 70 numbers are computed again.
    assert {
        "",
        "the merge went wrong: number 69 of 'second' is none that linear of these models gives",
    } == seen


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_copy_is_no_merge_even_in_another_type_or_rounded_again(
    models: list[MeasuredInput], tmp_path: Path, dtype: str
) -> None:
    name = {"F32": "float32", "BF16": "bfloat16"}[dtype]
    out = write(tmp_path / "out", ONE | {"first": (1.0 + 2**-23, 2.0, 3.0)}, dtype)
    (out / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": name}))
    config = LINEAR.replace('two", parameters: {weight: 1}', 'two", parameters: {weight: 1.0e-9}')
    with pytest.raises(LockError, match="it is 'one', so nothing was combined"):
        reported(models, tmp_path, f"{config}dtype: {name}\n")


def test_an_output_that_cannot_be_read_is_refused(
    models: list[MeasuredInput], tmp_path: Path
) -> None:
    out = write(tmp_path / "out", MEAN)
    (out / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(LockError, match="the output's weights cannot be read: "):
        reported(models, tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("README.md", "a card", r"it has other files than the base: 'README\.md'"),
        ("tokenizer.json", None, r"it has other files than the base: 'tokenizer\.json'"),
        ("tokenizer.json", "{ }", r"'tokenizer\.json' is not the base's"),
        ("config.json", "{}", r"'config\.json' is not the base's"),
    ],
)
def test_every_other_file_is_the_bases(
    models: list[MeasuredInput], tmp_path: Path, name: str, data: str | None, message: str
) -> None:
    out = write(tmp_path / "out", MEAN)
    if data is None:
        (out / name).unlink()
    else:
        (out / name).write_text(data)
    with pytest.raises(LockError, match=message):
        reported(models, tmp_path)
