"""A report's number of weights comes from the output's tensor headers, hostile or not."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.errors import LockError
from aicert.files.tree import read_tree
from aicert.formats.run_report_facts import Records
from enclave_runner.axolotl.report import _parameters, _self_reported_values, of_weights
from enclave_runner.inputs.reportable import check_reportable
from tests.adversarial.attacks_disk import ATTACKS, GOOD, safetensors, tensor
from tests.adversarial.forger import FACTS


def test_weights_of_all_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(GOOD)
    (tmp_path / "b.safetensors").write_bytes(safetensors({"x": tensor(0, 8, (2, 4), "I8")}))
    (tmp_path / "c.json").write_bytes(GOOD)
    assert _parameters(tmp_path, read_tree(tmp_path)) == 10


def test_files_that_no_loader_takes_have_none(tmp_path: Path) -> None:
    bad = [attack.weights for attack in ATTACKS if attack.weights is not GOOD]
    for number, data in enumerate(bad):
        (tmp_path / f"{number}.safetensors").write_bytes(data)
    assert len(bad) > 10
    assert _parameters(tmp_path, read_tree(tmp_path)) == 0


ROWS: Records = FACTS["records"][0]
LONG = tuple(f"{number}/{'x' * 200}" for number in range(3000))


def named(count: int) -> Records:
    return replace(ROWS, files=tuple(map(str, range(count))))


def test_what_a_report_can_hold_is_trained_on() -> None:
    check_reportable([ROWS, named(4095)], ["model/config.json: name_or_path"] * 256)


@pytest.mark.parametrize(
    ("records", "removed", "message"),
    [
        (
            [],
            ["a: b"] * 257,
            r"^the run report cannot say .*removed\.value has more than 256 items",
        ),
        ([], ["a: \udc00"], "cannot be written as JSON"),
        ([named(4097)], [], "more than 4096 items"),
        (
            [replace(ROWS, files=LONG)],
            [],
            r"take [0-9]{6} bytes, but a run report has room for 524288",
        ),
    ],
)
def test_what_it_cannot_hold_is_refused_before_training(
    records: Sequence[Records], removed: Sequence[str], message: str
) -> None:
    with pytest.raises(LockError, match=message):
        check_reportable(records, removed)


def test_evaluations_are_the_trainers_word() -> None:
    values = _self_reported_values(
        {
            "evalLosses": [[5, 2.5], [10, 2.25]],
            "metrics": {"eval_rewards/accuracies": 0.5, "eval_Losses": 9.0},
        }
    )
    assert {value.origin for value in values.values()} == {"self-reported"}
    # A metric cannot replace the value of another name.
    assert {key: value.data for key, value in values.items()} == {
        "evalLossSteps": (5, 10), "evalLosses": (2.5, 2.25), "evalRewardsAccuracies": 0.5,
    }  # fmt: skip


def test_inputs_of_which_the_trainer_saw_weights_are_named() -> None:
    shown = [
        "base/model-00001-of-00002.safetensors",
        "base/config.json",
        "tokenizer/tokenizer.json",
        "adapter/v1/adapter_model.bin",
    ]
    assert of_weights(shown)["weightInputs"].data == "adapter, base"
    assert of_weights(["tokenizer/tokenizer.json"])["weightInputs"].data == ""


def test_inputs_that_are_too_many_to_be_named_are_unknown() -> None:
    assert of_weights(f"{number:062}/model.safetensors" for number in range(16)) == {}
