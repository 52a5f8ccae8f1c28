"""What a config asks of a GPU, and the line to write where there is none."""

import pytest

from rules.project.config_hints import without_gpu

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
