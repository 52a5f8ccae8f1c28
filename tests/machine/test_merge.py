"""A merge in the booted machine: it is certified, and equals the sum of its inputs."""

import struct
from pathlib import Path

import pytest

from enclave_runner.merge import fitting
from rules.example import example
from tests.adversarial.attacks_disk import safetensors, tensor
from tests.machine.conftest import Built, passed_in_machine

pytestmark = [pytest.mark.slow, pytest.mark.machine]

TOML = f"""
[runs.merged]
config = "path:merge.yml"
machine = "there"
outputs = ["model"]
trainer = "axolotl-merge"

[runs.merged.inputs]
base = "path:{example.MODEL}"
adapter = "path:adapter"

[machines.there]
driver = "qemu"
memory = "2 GiB"
time-limit = "2 h"
"""
LAYER = "model.layers.0.self_attn.q_proj"


def lay_out(root: Path) -> None:
    """Make a project with one run, a merge of an adapter that adds 1 to each weight of one
    layer.
    """
    root.mkdir()
    example.make_example(root)
    base = fitting.tensors_of([root / example.MODEL / "model.safetensors"])
    out, inside = base[f"{LAYER}.weight"].shape
    (root / "aicert.toml").write_text(TOML)
    (root / "merge.yml").write_text("base_model: input:base\nlora_model_dir: input:adapter\n")
    adapter = root / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "task_type": "CAUSAL_LM"}'
    )
    names = {"lora_A": (1, inside), "lora_B": (out, 1)}
    header, at = {}, 0
    for name, (rows, columns) in names.items():
        end = at + 4 * rows * columns
        header[f"base_model.model.{LAYER}.{name}.weight"] = tensor(at, end, (rows, columns))
        at = end
    ones = struct.pack("<f", 1.0) * (at // 4)
    (adapter / "adapter_model.safetensors").write_bytes(safetensors(header, 0) + ones)


def weights(path: Path) -> list[float]:
    """Return the weights of the layer."""
    layer = fitting.tensors_of([path])[f"{LAYER}.weight"]
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    return list(struct.unpack(f"<{layer.elements}f", data[start + layer.begin : start + layer.end]))


# This takes three minutes of an emulated processor, almost all for imports of torch and Axolotl.
@pytest.mark.whole
def test_a_merge_is_certified_in_the_machine(built: Built, tmp_path: Path) -> None:
    root = tmp_path / "project"
    lay_out(root)
    shown = {"kind": "merge", "check": "outputs.derived"}
    out = passed_in_machine(built, root, tmp_path, "merged", **shown)
    before = weights(root / example.MODEL / "model.safetensors")
    after = weights(out / "outputs/model/model.safetensors")
    assert max(abs(new - old - 1) for old, new in zip(before, after, strict=True)) < 1e-6
