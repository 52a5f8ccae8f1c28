"""A config whose keys contradict each other about the kind of training is refused."""

import pytest

from enclave_runner.axolotl import kinds
from enclave_runner.axolotl.config_rules import ConfigRefused
from enclave_runner.axolotl.plugins import DIFFUSION


@pytest.mark.parametrize("name", ["type_of_model", "model_type"])
@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("reward_model", "AutoModelForSequenceClassification"),
        ("process_reward_model", "LlamaForTokenClassification"),
    ],
)
def test_a_reward_model_is_of_a_class_that_has_rewards(name: str, key: str, fits: str) -> None:
    with pytest.raises(
        ConfigRefused, match=f"{name}: 'LlamaForCausalLM' is not a class for `{key}`"
    ):
        kinds.check({key: True, name: "LlamaForCausalLM"})
    kinds.check({key: True, name: fits})
    kinds.check({key: True})
    kinds.check({key: False, name: "LlamaForCausalLM"})


@pytest.mark.parametrize("key", ["reward_model", "process_reward_model", "rl"])
def test_diffusion_is_a_kind_of_its_own(key: str) -> None:
    with pytest.raises(ConfigRefused, match=f"{key}: the plugin .* has its own trainer"):
        kinds.check({"plugins": ["aicert_axolotl.CertifiedRun", DIFFUSION], key: "x"})
    kinds.check({"plugins": [DIFFUSION]})
    kinds.check({"plugins": ["aicert_axolotl.CertifiedRun"], key: "x"})


@pytest.mark.parametrize(
    "ebft",
    [
        {"ce_coef": 1, "rl_coef": 0},
        {"ce_coef": 1.5},
        {"ce_coef": "1"},
        {"ce_coef": -1},
        {"ce_coef": 1, "rl_coef": None},
    ],
)
def test_ebft_trains_on_generated_text_above_all(ebft: dict[str, object]) -> None:
    with pytest.raises(ConfigRefused, match=r"ebft\.ce_coef: .* gives the rows more weight"):
        kinds.check({"rl": "ebft", "ebft": ebft})
    kinds.check({"rl": "dpo", "ebft": ebft})


def test_ebft_may_weigh_its_rows_less() -> None:
    kinds.check({"rl": "ebft"})
    kinds.check({"rl": "ebft", "ebft": {"mode": "strided", "rl_coef": 1.0}})
    kinds.check({"rl": "ebft", "ebft": {"ce_coef": 0.03}})
