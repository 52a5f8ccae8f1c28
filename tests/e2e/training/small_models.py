"""Make pairs of small models that are no Llama: a program for the training environment.

The argument is a folder: for each architecture it gets `one` and `two`, of the same shape.
"""

import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

GPT2 = GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=100, n_positions=32)
QWEN2 = Qwen2Config(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=100,
    max_position_embeddings=64,
    tie_word_embeddings=True,
)


def main(folder: Path) -> None:
    """Make them; Qwen2's first has its weights in several files."""
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        GPT2LMHeadModel(GPT2).save_pretrained(folder / "gpt2" / name)
        size = "20KB" if name == "one" else "1GB"
        Qwen2ForCausalLM(QWEN2).save_pretrained(folder / "qwen2" / name, max_shard_size=size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
