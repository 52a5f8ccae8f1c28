"""What a merge reads; in its output, only what the adapter names may differ."""

import json
import shutil
from pathlib import Path

import pytest

from aicert.errors import LockError
from aicert.files.tree import read_tree
from aicert.formats.listing import dir_digest
from aicert.formats.run_report import RunReport
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.merge import merging, settings
from enclave_runner.merge.derivation import DerivedModel
from tests.unit.rules.project.one_run import matrices
from tests.unit.rules.project.test_merge_runs import PAIR

CONFIG = b"base_model: input:base\nlora_model_dir: input:adapter\n"
BASE = {"layer.weight": (4, 6), "other.weight": (2, 2)}
FOLDERS = {"adapter": True, "base": True, "config": False}


@pytest.fixture
def measured(tmp_path: Path) -> list[MeasuredInput]:
    files = {
        "base/config.json": b'{"model_type": "llama", "_name_or_path": "/home/me/base"}',
        "base/model.safetensors": matrices(**BASE),
        "base/README.md": b"a card",
        "adapter/adapter_config.json": json.dumps(
            {"peft_type": "LORA", "r": 2, "base_model_name_or_path": "/home/me/base"}
        ).encode(),
        "adapter/adapter_model.safetensors": matrices(
            **{f"{PAIR}A.weight": (2, 6), f"{PAIR}B.weight": (4, 2)}
        ),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return [of(tmp_path / name) for name in ("adapter", "base")]


def of(path: Path) -> MeasuredInput:
    files = read_tree(path)
    return MeasuredInput(
        name=path.name, path=path, digest=dir_digest(files), files=files, stat_keys={}
    )


def prepared(measured: list[MeasuredInput], folder: Path) -> merging.Prepared:
    return merging.prepare(settings.read(CONFIG, FOLDERS), measured, folder / "models")


def test_the_child_sees_the_models_files_without_names_of_others(
    measured: list[MeasuredInput], tmp_path: Path
) -> None:
    given = prepared(measured, tmp_path)
    assert sorted(given.models.shown) == [
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
        "base/config.json", "base/model.safetensors",
    ]  # fmt: skip
    assert given.models.removed == (
        "adapter/adapter_config.json: base_model_name_or_path",
        "base/config.json: _name_or_path",
    )
    assert b"/home" not in given.models.shown["adapter/adapter_config.json"].read_bytes()
    assert given.targets == {"layer.weight"}


def test_an_adapter_that_names_a_file_is_refused(
    measured: list[MeasuredInput], tmp_path: Path
) -> None:
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text('{"peft_type": "LORA", "megatron_config": "/etc/passwd"}')
    with pytest.raises(LockError, match=r"adapter/adapter_config\.json"):
        prepared([of(path.parent), measured[1]], tmp_path)


@pytest.mark.parametrize("name", ["base/model.safetensors", "adapter/adapter_model.safetensors"])
def test_a_model_without_weights_is_refused(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("measured")
    (tmp_path / name).unlink()
    with pytest.raises(LockError, match=f"input {name.partition('/')[0]} holds no weights"):
        prepared([of(tmp_path / "adapter"), of(tmp_path / "base")], tmp_path)


def test_a_base_has_its_weights_under_the_names_that_loaders_look_for(
    measured: list[MeasuredInput], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    (base / "model.safetensors").rename(base / "model-00001-of-00001.safetensors")
    refusal = r"input base has weights in 'model-00001-of-00001\.safetensors', which no such run"
    with pytest.raises(LockError, match=refusal):
        prepared([measured[0], of(base)], tmp_path)
    (base / "model-00002-of-00002.safetensors").write_bytes(matrices(more=(1, 1)))
    assert len(prepared([measured[0], of(base)], tmp_path).base) == 2
    # A config may name a weights file itself.
    settings_of_base = {"model_type": "llama", "transformers_weights": "other.safetensors"}
    (base / "config.json").write_text(json.dumps(settings_of_base))
    (base / "other.safetensors").write_bytes(matrices(third=(1, 1)))
    with pytest.raises(LockError, match=r"input base has weights in 'other\.safetensors', which"):
        prepared([measured[0], of(base)], tmp_path)


def ended(exit_code: str, folder: Path, **heard: object) -> TrainingResult:
    return TrainingResult(
        exit_code=exit_code, limit_hit=None, wall_seconds=1.0, cpu_seconds=1.0, max_rss=1,
        log=folder, log_truncated=False, output=folder, excluded=(), self_reported=heard,
        counted={}, pace=(), facts={"versions": {}, "settings": {}},
    )  # fmt: skip


def reported(
    given: merging.Prepared, result: TrainingResult, measured: list[MeasuredInput]
) -> RunReport:
    """Return the report on the files of a child that ended; on none if it failed."""
    files = read_tree(result.output) if result.exit_code == "0" else {}
    output = DerivedModel(folder=result.output, files=files, seed=bytes(32))
    return merging.MERGE.report_of(given, result, measured, output)


def changed(weights: bytes, *, at: int) -> bytes:
    """Change one byte, `at` bytes from the end."""
    return weights[:-at] + bytes([weights[-at] ^ 1]) + weights[len(weights) - at + 1 :]


def test_a_merge_is_reported_with_what_it_is_of(
    measured: list[MeasuredInput], tmp_path: Path
) -> None:
    given, out = prepared(measured, tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes(changed(matrices(**BASE), at=9))
    shutil.copy(given.models.shown["base/config.json"], out)
    report = reported(given, ended("0", out), measured)
    values = {key: value.data for key, value in report.values.items() if value.origin == "measured"}
    wanted = {
        "adapterInput": "adapter", "baseInput": "base", "tensorsTargeted": 1,
        "weightInputs": "adapter, base",
        "tensorsChanged": 1, "tensorsUnchanged": 1, "tensorsNew": 0, "weightParameters": 28,
    }  # fmt: skip
    assert {key: values[key] for key in wanted} == wanted
    assert (report.records, report.loss, report.removed) == ((), None, given.models.removed)


def test_a_merge_that_failed_compared_nothing(
    measured: list[MeasuredInput], tmp_path: Path
) -> None:
    given = prepared(measured, tmp_path)
    result = ended("86", tmp_path, violation="it opened a socket")
    report = reported(given, result, measured)
    assert report.exit_code == "86"
    assert "tensorsChanged" not in report.values
    assert report.values["auditViolation"].data == "it opened a socket"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            changed(matrices(**BASE), at=1),
            "1 tensors changed although the adapter does not name them: ",
        ),
        (matrices(**BASE, more=(1, 1)), "1 tensors are not the base's: 'more'"),
        (matrices(**{"layer.weight": (4, 6)}), "of the base are missing: 'other.weight'"),
        (matrices(**(BASE | {"layer.weight": (6, 4)})), "have a different type or shape: 'layer"),
        (b"no header", "the output's weights cannot be read: "),
    ],
)
def test_what_is_no_merge_of_these_gets_no_certificate(
    measured: list[MeasuredInput], tmp_path: Path, output: bytes, message: str
) -> None:
    given, out = prepared(measured, tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes(output)
    with pytest.raises(LockError, match=message):
        reported(given, ended("0", out), measured)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it has other files than the base: 'config.json'"),
        ({"config.json": b"{}"}, "'config.json' is not the base's"),
        # As the base has it, with a name that was removed for the child.
        ({"config.json": None}, "'config.json' is not the base's"),
        ({"tokenizer.json": b"{}"}, "it has other files than the base: "),
    ],
)
def test_the_other_files_of_a_merge_are_the_bases(
    measured: list[MeasuredInput], tmp_path: Path, files: dict[str, bytes | None], message: str
) -> None:
    given, out = prepared(measured, tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes(changed(matrices(**BASE), at=9))
    for name, data in files.items():
        (out / name).write_bytes((tmp_path / "base" / name).read_bytes() if data is None else data)
    with pytest.raises(LockError, match=f"the merge went wrong: {message}"):
        reported(given, ended("0", out), measured)
