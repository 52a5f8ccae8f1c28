"""Adapters of several kinds, merged by Axolotl and by PEFT: a program for the training environment.

The arguments are a small model, and a folder for adapters and merged models. It prints one JSON
object: for each kind, the largest difference in a weight.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from axolotl.cli.utils.lora_merge import merge_lora_sharded_efficient
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    "head": {"modules_to_save": ["lm_head"]},
    "on its side": {"fan_in_fan_out": True, "target_modules": ["c_attn", "c_proj"]},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "tokens": {"trainable_token_indices": [1, 2]},
    "biases": {"bias": "all", "fan_in_fan_out": True, "target_modules": ["c_attn"]},
}
GPT2 = ("on its side", "biases")


def make(kind: str, base: Path, folder: Path) -> float:
    """Write an adapter with random weights, and its merge. Returns the largest difference from
    PEFT's merge.
    """
    torch.manual_seed(1)
    common = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False}
    settings = LoraConfig(**(common | KINDS[kind]), task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn_like(weights) * 0.05)
    model.save_pretrained(folder / "adapter")
    merge_lora_sharded_efficient(base, folder / "adapter", folder / "merged")
    whole = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), folder / "adapter"
    ).merge_and_unload()
    wanted = whole.state_dict()
    merged = load_file(folder / "merged/model.safetensors")
    return max(float((wanted[name] - each).abs().max()) for name, each in merged.items())


def main(base: Path, folder: Path) -> None:
    """Make every kind of adapter."""
    gpt2 = folder / "gpt2"
    small = GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=100, n_positions=32)
    GPT2LMHeadModel(small).save_pretrained(gpt2)
    worst = {kind: make(kind, gpt2 if kind in GPT2 else base, folder / kind) for kind in KINDS}
    (folder / "worst.json").write_text(json.dumps(worst))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
