"""The config of an evaluation is closed: which keys it may have, and which it must have."""

import json
from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.formats.digest import Digest
from aicert.formats.run_report_facts import Records
from enclave_runner.axolotl.config import InputView
from enclave_runner.evaluate import settings
from enclave_runner.evaluate.settings import KERNELS, KEYS, NEEDED

INPUTS = {
    "config": InputView(is_file=True),
    "model": InputView(is_file=False, files=frozenset(("config.json", "model.safetensors"))),
    "adapter": InputView(is_file=False, files=frozenset(("adapter_config.json",))),
    "rows": InputView(is_file=True),
}
PLAIN = {
    "base_model": "input:model",
    "datasets": [{"path": "input:rows", "type": "completion"}],
    "sequence_len": 256,
}
ADAPTED = PLAIN | {"adapter": "lora", "lora_model_dir": "input:adapter"}
DIGEST = Digest("sha256", "a" * 64)


def read(config: object, *inputs: str) -> settings.Settings:
    given = {name: INPUTS[name] for name in ("config", *inputs)}
    return settings.read(json.dumps(config).encode(), given)


def test_a_model_and_rows_are_all_that_it_needs() -> None:
    asked = read(PLAIN | {"seed": 7}, "model", "rows")
    assert (asked.base.name, asked.adapter, asked.seed, asked.sequence_length) == (
        "model", None, 7, 256,
    )  # fmt: skip
    effective = json.loads(asked.effective.config)
    assert {key: effective[key] for key in NEEDED} == NEEDED
    assert effective["datasets"][0]["path"] == "/aicert/records/rows/0"
    added = {each.key for each in asked.effective.overrides if "nothing is trained" in each.why}
    assert added == set(NEEDED)


def test_an_adapter_is_loaded_on_top_of_its_base() -> None:
    asked = read(ADAPTED, "model", "adapter", "rows")
    assert asked.adapter is not None
    assert asked.adapter.name == "adapter"
    effective = json.loads(asked.effective.config)
    assert {key: effective[key] for key in KERNELS} == KERNELS


def test_what_is_not_set_is_axolotls_default() -> None:
    assert read(PLAIN, "model", "rows").seed == 42


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        (PLAIN | {"learning_rate": 0.1}, ("model", "rows"), "'learning_rate': an evaluation has"),
        (PLAIN | {"sequence_length": 1}, ("model", "rows"), "'sequence_length': an evaluation"),
        (PLAIN | {"trust_remote_code": True}, ("model", "rows"), "no such key"),
        ([1], ("model", "rows"), "not a mapping"),
        (PLAIN | {"base_model": "org/model"}, ("model", "rows"), "hub name"),
        (PLAIN | {"base_model": None}, ("model", "rows"), "base_model: missing"),
        (PLAIN | {"adapter": "lora"}, ("model", "rows"), "needs both"),
        (PLAIN | {"lora_model_dir": "input:adapter"}, ("model", "adapter", "rows"), "needs both"),
        (ADAPTED | {"adapter": "qlora"}, ("model", "adapter", "rows"), "needs both"),
        (PLAIN | {"datasets": None}, ("model", "rows"), "datasets: missing"),
        (PLAIN | {"datasets": []}, ("model", "rows"), "datasets: missing"),
        (
            PLAIN | {"datasets": [{"path": "input:rows", "split": "train[:2]"}]},
            ("model", "rows"),
            "reads one whole split",
        ),
        (
            PLAIN | {"datasets": [{"path": "input:rows", "split": "all"}]},
            ("model", "rows"),
            "reads one whole split",
        ),
        (
            PLAIN | {"datasets": [{"path": "input:rows"}, {"path": "input:rows"}]},
            ("model", "rows"),
            "same rows are named twice",
        ),
        (PLAIN, ("model", "adapter", "rows"), "other inputs: adapter"),
        (PLAIN | {"sequence_len": 0}, ("model", "rows"), "sequence_len: expected a number from 1"),
        (PLAIN | {"sequence_len": None}, ("model", "rows"), "sequence_len: expected a number"),
        (PLAIN | {"seed": -1}, ("model", "rows"), "seed: expected a number from 0"),
    ],
)
def test_what_an_evaluation_cannot_do_is_refused(
    config: object, inputs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config, *inputs)


def test_a_key_that_is_nearly_right_is_named() -> None:
    with pytest.raises(ConfigError) as refusal:
        read(PLAIN | {"sequence_length": 1}, "model", "rows")
    assert refusal.value.hint == "did you mean `sequence_len`?"
    with pytest.raises(ConfigError) as refusal:
        read(PLAIN | {"zzz": 1}, "model", "rows")
    assert refusal.value.hint == "docs/spec/evaluation.md lists them"


def test_what_is_not_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="config: "):
        settings.read(b"a: [", {})


def test_results_name_each_split_once() -> None:
    one = Records(
        name="rows", split="train", rows=1, bytes=3, digest=DIGEST, unread_bytes=0, files=("a",)
    )
    settings.check_records((one,))
    with pytest.raises(ConfigError, match="two entries name split train of rows"):
        settings.check_records((one, one))


def test_the_document_lists_every_key() -> None:
    text = (Path(__file__).parents[4] / "docs/spec/evaluation.md").read_text()
    assert {key for key in KEYS if f"`{key}`" not in text} == set()
