"""Which keys of a config need a GPU, and the line to write if there is none."""

import pytest

from rules.project.config_hints import without_gpu
from rules.project.config_packages import lacking, locked_packages

OFF = {"bf16": False, "fp16": False, "attn_implementation": "sdpa"}


@pytest.mark.parametrize(
    ("more", "lines"),
    [
        ({}, []),
        ({"bf16": "auto"}, ["bf16: false"]),
        ({"bf16": None, "fp16": None}, ["bf16: false"]),
        ({"tf32": True}, ["tf32: false"]),
        ({"flash_attention": True}, ["attn_implementation: sdpa"]),
        ({"attn_implementation": "flash_attention_2"}, ["attn_implementation: sdpa"]),
        ({"deepspeed": "/aicert/inputs/zero1"}, ["deepspeed: null"]),
        ({"adapter": "lora"}, ["lora_mlp_kernel: false"]),
        ({"adapter": "lora", "lora_qkv_kernel": True}, ["lora_qkv_kernel: false"]),
        ({"adapter": "qlora", "lora_mlp_kernel": False}, []),
    ],
)
def test_each_thing_that_needs_a_gpu_has_the_line_to_write(
    more: dict[str, object], lines: list[str]
) -> None:
    assert [line for _, line in without_gpu({**OFF, **more})] == lines


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        ({"optimizer": "adamw_torch_8bit"}, "torchao"),
        ({"optimizer": "ao_adamw_fp8"}, "torchao"),
        ({"optimizer": "schedule_free_sgd"}, "schedulefree"),
        ({"attn_implementation": "flash_attention_2"}, "flash-attn"),
        ({"xformers_attention": True}, "xformers"),
        ({"deepspeed": "/aicert/inputs/zero1"}, "deepspeed"),
        ({"use_onebitllms": True}, "onebitllms"),
        ({"context_parallel_size": 2}, "ring-flash-attn"),
    ],
)
def test_a_package_that_no_lock_names_is_named(settings: dict[str, object], package: str) -> None:
    assert [each.package for each in lacking(settings, locked_packages())] == [package]


@pytest.mark.parametrize("optimizer", ["adamw_torch_fused", "adamw_bnb_8bit", "muon", "lion_8bit"])
def test_what_the_environment_has_is_not(optimizer: str) -> None:
    settings: dict[str, object] = {"optimizer": optimizer, "attn_implementation": "sdpa"}
    settings |= {"context_parallel_size": 1, "tokenizer_use_mistral_common": True}
    assert not list(lacking(settings, locked_packages()))


def test_a_package_that_is_locked_one_day_is_no_longer_hinted_at() -> None:
    assert "bitsandbytes" in locked_packages()
    assert not list(lacking({"optimizer": "adamw_torch_8bit"}, frozenset(("torchao",))))
