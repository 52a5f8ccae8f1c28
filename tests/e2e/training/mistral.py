"""A Mistral model with the vocabulary that mistral-common reads, made of the shipped example's.

The weights are the example's: a Mistral has the same tensors as a Llama. The vocabulary is each
byte, after the twenty control tokens that mistral-common itself gives to a file without them. The
example's own tokenizer lies beside it, as in published models.
"""

import base64
import json
from pathlib import Path

CONTROL_TOKENS = 20
# Words with the space before them, runs of digits, other characters, white space.
_PATTERN = r" ?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"
_OF_THE_MODEL = (
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


def vocabulary() -> bytes:
    """Return a `tekken.json`."""
    config = {
        "pattern": _PATTERN,
        "num_vocab_tokens": 256,
        "default_vocab_size": CONTROL_TOKENS + 256,
        "default_num_special_tokens": CONTROL_TOKENS,
        "version": "v3",
    }
    vocab = [
        {"rank": byte, "token_bytes": base64.b64encode(bytes((byte,))).decode(), "token_str": None}
        for byte in range(256)
    ]
    return json.dumps({"config": config, "vocab": vocab}).encode()


def lay_out(folder: Path, model: Path) -> None:
    """Write the model into `folder`, with both vocabularies."""
    folder.mkdir()
    for name in _OF_THE_MODEL:
        (folder / name).write_bytes((model / name).read_bytes())
    settings = json.loads((model / "config.json").read_bytes())
    settings |= {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    settings["sliding_window"] = None
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tekken.json").write_bytes(vocabulary())
