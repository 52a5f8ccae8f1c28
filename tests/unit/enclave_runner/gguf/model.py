"""A small Llama model with numbers, and the GGUF file that a right conversion makes of it."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from enclave_runner.gguf import pieces
from enclave_runner.gguf.pieces import Piece
from tests.adversarial.attacks_disk import tensor
from tests.unit import gguf_files as files
from tests.unit.enclave_runner.mergekit.weights import saved, stored

WIDTH, INNER, VOCABULARY, HEADS, KEY_HEADS = 32, 64, 6, 2, 1
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 16,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "max_position_embeddings": 64,
    "model_type": "llama",
    "num_attention_heads": HEADS,
    "num_hidden_layers": 1,
    "num_key_value_heads": KEY_HEADS,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
}
SETTINGS: dict[str, Any] = {"add_bos_token": True, "chat_template": "{{ messages }}"}
_LAYER = "model.layers.0."
SHAPES: dict[str, tuple[int, ...]] = {
    "lm_head.weight": (VOCABULARY, WIDTH),
    "model.embed_tokens.weight": (VOCABULARY, WIDTH),
    f"{_LAYER}input_layernorm.weight": (WIDTH,),
    f"{_LAYER}mlp.down_proj.weight": (WIDTH, INNER),
    f"{_LAYER}mlp.gate_proj.weight": (INNER, WIDTH),
    f"{_LAYER}mlp.up_proj.weight": (INNER, WIDTH),
    f"{_LAYER}post_attention_layernorm.weight": (WIDTH,),
    f"{_LAYER}self_attn.k_proj.weight": (16, WIDTH),
    f"{_LAYER}self_attn.o_proj.weight": (WIDTH, WIDTH),
    f"{_LAYER}self_attn.q_proj.weight": (WIDTH, WIDTH),
    f"{_LAYER}self_attn.v_proj.weight": (16, WIDTH),
    "model.norm.weight": (WIDTH,),
}
NAMES = {
    "lm_head.weight": "output.weight",
    "model.embed_tokens.weight": "token_embd.weight",
    f"{_LAYER}input_layernorm.weight": "blk.0.attn_norm.weight",
    f"{_LAYER}mlp.down_proj.weight": "blk.0.ffn_down.weight",
    f"{_LAYER}mlp.gate_proj.weight": "blk.0.ffn_gate.weight",
    f"{_LAYER}mlp.up_proj.weight": "blk.0.ffn_up.weight",
    f"{_LAYER}post_attention_layernorm.weight": "blk.0.ffn_norm.weight",
    f"{_LAYER}self_attn.k_proj.weight": "blk.0.attn_k.weight",
    f"{_LAYER}self_attn.o_proj.weight": "blk.0.attn_output.weight",
    f"{_LAYER}self_attn.q_proj.weight": "blk.0.attn_q.weight",
    f"{_LAYER}self_attn.v_proj.weight": "blk.0.attn_v.weight",
    "model.norm.weight": "output_norm.weight",
}
# ggml's number of a type, and llama.cpp's of a file with it.
KINDS = {"F32": (files.F32, 0), "F16": (files.F16, 1), "BF16": (files.BF16, 32)}
Numbers = Mapping[str, list[float]]


def varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def field(number: int, data: bytes) -> bytes:
    """Return a field of bytes, of a message of protocol buffers."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def piece(text: str, score: float = 0.0, kind: int | None = None) -> bytes:
    own = field(1, text.encode()) + b"\x15" + struct.pack("<f", score)
    return field(1, own + (b"" if kind is None else b"\x18" + varint(kind)))


def tokenizer(*pieces: bytes, kind: bytes = b"\x18\x02") -> bytes:
    """Return a SentencePiece model; `kind` is the field that says that it is BPE."""
    return b"".join(pieces) + field(2, kind)


PIECES = (
    piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3),
    piece("<0x0A>", 0, 6), piece("\u2581a", -1.5),
)  # fmt: skip


def fast_tokenizer(
    own: Sequence[Piece] = pieces.read(tokenizer(*PIECES)),  # never changed
    *,
    added: Sequence[object] | None = (),
    **changes: Any,
) -> dict[str, Any]:
    """Return the `tokenizer.json` that Transformers makes of these pieces, with changes."""
    vocabulary = {each.text: number for number, each in enumerate(own)}
    space = {
        "type": "Metaspace",
        "replacement": "\u2581",
        "prepend_scheme": "first",
        "split": False,
    }
    outer = {"normalizer": None, "pre_tokenizer": space}
    outer = {key: changes.pop(key, value) for key, value in outer.items()}
    model = {"type": "BPE", "byte_fallback": True, "merges": [], "vocab": vocabulary}
    return {
        **outer,
        "added_tokens": None if added is None else list(added),
        "model": model | changes,
    }


def numbers() -> dict[str, list[float]]:
    """Return numbers that every type stores exactly, all different ones in a tensor if it can."""
    tensors: dict[str, list[float]] = {}
    for start, (name, shape) in enumerate(SHAPES.items()):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        tensors[name] = [((start * 31 + at * 7) % 255 - 127) / 64 for at in range(count)]
    return tensors


def write(
    folder: Path,
    config: Mapping[str, Any] = CONFIG,
    *,
    dtype: str = "F32",
    values: Numbers | None = None,
    model: bytes | None = None,
    more: Mapping[str, str] | None = None,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
) -> Path:
    """Write the model's folder. `more`: other files, and what they hold."""
    folder.mkdir()
    values = numbers() if values is None else values
    header: dict[str, object] = {}
    data = b""
    for name, shape in shapes.items():
        own = b"".join(stored(number, dtype) for number in values[name])
        header[name] = tensor(len(data), len(data) + len(own), shape, dtype)
        data += own
    (folder / "model.safetensors").write_bytes(saved(header, data))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").write_bytes(tokenizer(*PIECES) if model is None else model)
    for name, text in ({"tokenizer_config.json": json.dumps(SETTINGS)} | dict(more or {})).items():
        (folder / name).write_text(text)
    return folder


def by_turns(own: list[float], heads: int, width: int) -> list[float]:
    """Return the rows of each head's halves by turns."""
    rows = [own[at : at + width] for at in range(0, len(own), width)]
    size = len(rows) // heads
    ordered: list[float] = []
    for head in range(heads):
        for pair in range(size // 2):
            ordered += rows[head * size + pair] + rows[head * size + size // 2 + pair]
    return ordered


def single(number: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", number))
    return float(rounded)


def q8_0(own: list[float]) -> bytes:
    """Return these numbers as Q8_0."""
    data = b""
    for at in range(0, len(own), 32):
        block = own[at : at + 32]
        scale = single(max(map(abs, block)) / 127)
        inverse = single(1 / scale)
        whole = [int(single(abs(one) * inverse) + 0.5) * (1 if one > 0 else -1) for one in block]
        data += struct.pack("<e32b", scale, *whole)
    return data


def keys(number: int, template: str | None = "{{ messages }}") -> dict[str, files.Key]:
    """Return what a file of llama.cpp's type `number` says, by key."""
    whole = {
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KEY_HEADS,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": INNER,
        "llama.rope.dimension_count": 16,
        "llama.vocab_size": VOCABULARY,
        "general.file_type": number,
        "general.quantization_version": 2,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    texts = {
        "general.architecture": "llama",
        "general.type": "model",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        **({} if template is None else {"tokenizer.chat_template": template}),
    }
    tokens = ("<unk>", "<s>", "</s>", "<0x0A>", "\u2581a", "[PAD5]")
    written = [
        *(files.key(name, 4, one) for name, one in whole.items()),
        *(files.key(name, files.STRING, text) for name, text in texts.items()),
        files.key("llama.attention.layer_norm_rms_epsilon", 6, 1e-05),
        files.key("llama.rope.freq_base", 6, 10000.0),
        files.key("tokenizer.ggml.add_bos_token", 7, True),
        files.array("tokenizer.ggml.tokens", files.STRING, tokens),
        files.array("tokenizer.ggml.scores", 6, (0, 0, 0, 0, -1.5, -10000)),
        files.array("tokenizer.ggml.token_type", 5, (2, 3, 3, 6, 1, 5)),
    ]
    return {key[0]: key for key in written}


def entries(kind: str, values: Numbers | None = None) -> dict[str, files.Entry]:
    """Return the file's tensors by name, with matrices of this type."""
    values = numbers() if values is None else values
    written: dict[str, files.Entry] = {}
    for name, shape in SHAPES.items():
        own, target = values[name], NAMES[name]
        for part, heads in (("q_proj", HEADS), ("k_proj", KEY_HEADS)):
            own = by_turns(own, heads, WIDTH) if part in name else own
        if len(shape) == 1 or kind != "Q8_0":
            dtype = kind if len(shape) > 1 else "F32"
            data = b"".join(stored(number, dtype) for number in own)
            written[target] = (target, shape[::-1], KINDS[dtype][0], data)
        else:
            written[target] = (target, shape[::-1], files.Q8_0, q8_0(own))
    return written


def converted(kind: str = "F32", **others: Any) -> bytes:
    """Return the file; `others`: keys or tensors, by name, to replace those (None: to remove)."""
    number = 7 if kind == "Q8_0" else KINDS[kind][1]
    own_keys, own_tensors = keys(number), entries(kind)
    for name, other in others.pop("keys", {}).items():
        own_keys[name] = other
    for name, other in others.pop("tensors", {}).items():
        own_tensors[name] = other
    return files.gguf(
        [key for key in own_keys.values() if key], [one for one in own_tensors.values() if one]
    )
