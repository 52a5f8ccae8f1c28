"""The base model of the shipped example: a Llama with 128,576 parameters and no training.

Weights are integers from SHA-256 of a counter times a power of two. They are exact in float32, so
the bytes are the same everywhere, which a framework's generator does not promise. The tokenizer is
a byte-level BPE whose merges are counted here from the example's own rows. Files are written as
safetensors and Hugging Face's JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

SPECIAL = ("<pad>", "<s>", "</s>")
MERGES = 199
VOCABULARY = len(SPECIAL) + 256 + MERGES
HIDDEN, LAYERS, HEADS, MIDDLE, POSITIONS = 64, 2, 4, 96, 512
# A chat's request in the words that Axolotl puts around a row of kind `alpaca`: a model that learnt
# such rows is asked as it was taught.
CHAT_TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.{% endif %}{{ '\n\n' }}"
    "{% for message in messages %}{% if message.role == 'user' %}"
    "{{ '### Instruction:\n' + message.content + '\n\n### Response:\n' }}"
    "{% elif message.role == 'assistant' %}{{ message.content + eos_token + '\n\n' }}"
    "{% endif %}{% endfor %}"
)
# |w| < 2**-4: a standard deviation of about 0.036.
_SCALE = 2.0**-27
# What the byte-level pre-tokenizer cuts ASCII text into.
_PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def byte_names() -> list[str]:
    """Return a printable character for each byte, as byte-level BPE writes them."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    names = {byte: chr(byte) for byte in plain}
    for count, byte in enumerate(each for each in range(256) if each not in names):
        names[byte] = chr(256 + count)
    return [names[byte] for byte in range(256)]


def learn_merges(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return the MERGES most frequent pairs, one after another; ties go to the first by
    code point.
    """
    names = byte_names()
    pieces = Counter(piece for text in texts for piece in _PIECES.findall(text))
    words = [([names[byte] for byte in piece.encode()], n) for piece, n in sorted(pieces.items())]
    merges: list[tuple[str, str]] = []
    while len(merges) < MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words:
            for pair in pairwise(word):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = [(_merge(word, best), times) for word, times in words]
    return merges


def _merge(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in word:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode("ascii")


def tokenizer_files(texts: Iterable[str]) -> dict[str, bytes]:
    """Return the tokenizer's files by name, with merges learnt from `texts`."""
    merges = learn_merges(texts)
    entries = [*SPECIAL, *sorted(byte_names()), *(left + right for left, right in merges)]
    special = [
        {"id": number, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for number, name in enumerate(SPECIAL)
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": True}  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": False, "vocab": {name: number for number, name in enumerate(entries)},
        "merges": [list(pair) for pair in merges],
    }  # fmt: skip
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": model,
    }  # fmt: skip
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS,
        "pad_token": SPECIAL[0], "bos_token": SPECIAL[1], "eos_token": SPECIAL[2],
        "clean_up_tokenization_spaces": False, "chat_template": CHAT_TEMPLATE,
    }  # fmt: skip
    return {"tokenizer.json": _json(tokenizer), "tokenizer_config.json": _json(config)}


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield every tensor of the model by name, sorted."""
    yield "lm_head.weight", (VOCABULARY, HIDDEN)
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (HIDDEN,)
        yield f"{prefix}.mlp.down_proj.weight", (HIDDEN, MIDDLE)
        yield f"{prefix}.mlp.gate_proj.weight", (MIDDLE, HIDDEN)
        yield f"{prefix}.mlp.up_proj.weight", (MIDDLE, HIDDEN)
        yield f"{prefix}.post_attention_layernorm.weight", (HIDDEN,)
        for part in "koqv":
            yield f"{prefix}.self_attn.{part}_proj.weight", (HIDDEN, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)


def _tensor(name: str, shape: tuple[int, ...]) -> bytes:
    count = shape[0] * (shape[1] if len(shape) == 2 else 1)
    if len(shape) == 1:
        return struct.pack("<f", 1.0) * count
    values = array("f")
    for block in range((count + 7) // 8):
        digest = hashlib.sha256(f"aicert example weight {name} {block}".encode("ascii")).digest()
        for word in struct.unpack(">8I", digest):
            values.append(((word >> 8) - 2**23) * _SCALE)
    return struct.pack(f"<{count}f", *values[:count])


def safetensors() -> bytes:
    """Return `model.safetensors`: the length of the header, the header, the tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    parts: list[bytes] = []
    offset = 0
    for name, shape in shapes():
        data = _tensor(name, shape)
        span = [offset, offset + len(data)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": span}
        offset += len(data)
        parts.append(data)
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def model_files(texts: Iterable[str]) -> dict[str, bytes]:
    """Return every file of the model's directory, by name."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32",
        "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": MIDDLE,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "head_dim": HIDDEN // HEADS, "hidden_act": "silu", "max_position_embeddings": POSITIONS,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False, "mlp_bias": False,
        "attention_dropout": 0.0, "tie_word_embeddings": False, "use_cache": True,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return {
        "config.json": _json(config),
        "generation_config.json": _json(generation),
        "model.safetensors": safetensors(),
        **tokenizer_files(texts),
    }
