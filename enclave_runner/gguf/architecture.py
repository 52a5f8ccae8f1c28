"""Say what a GGUF file must hold for a Llama model: which tensors, and what its config becomes.

The names are llama.cpp's (`gguf/constants.py` and `tensor_mapping.py` of its converter). A config
is refused for each key that is not listed here, since the converter drops what it does not know.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import LockError
from aicert.formats.gguf import BLOCKS, Value
from aicert.formats.safetensors import Tensor
from enclave_runner.mergekit.stored import rounded

# The architectures that were compared, by their `model_type`.
ARCHITECTURES: Mapping[str, str] = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
_TYPES = frozenset(("BF16", "F16", "F32"))
_MAX_LAYERS = 10_000
# Keys of the config that do not change what a model computes, or that `Shape` reads.
_FREE = frozenset(
    (
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "head_dim",
        "hidden_size",
        "initializer_range",
        "intermediate_size",
        "max_position_embeddings",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "pad_token_id",
        "pretraining_tp",
        "rms_norm_eps",
        "rope_parameters",
        "rope_theta",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "unk_token_id",
        "use_cache",
        "vocab_size",
    )
)
# Keys that may only have the value which every file of this architecture means.
_FIXED: Mapping[str, object] = {
    "attention_bias": False,
    "hidden_act": "silu",
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
    "rope_scaling": None,
    "sliding_window": None,
}
_LAYER = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,4})\.(.+)")
_OUTER = {
    "lm_head.weight": "output.weight",
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
}
_INNER = {
    "input_layernorm.weight": "attn_norm.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The numbers of a config that give a model its tensors."""

    vocabulary: int
    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    head_width: int
    context: int
    epsilon: float
    theta: float
    is_tied: bool

    def values(self) -> dict[str, Value]:
        """Return what the file's keys must say about the architecture."""
        numbers = {
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.key_heads,
            "llama.attention.key_length": self.head_width,
            "llama.attention.value_length": self.head_width,
            "llama.block_count": self.layers,
            "llama.context_length": self.context,
            "llama.embedding_length": self.width,
            "llama.feed_forward_length": self.inner,
            "llama.rope.dimension_count": self.head_width,
            "llama.vocab_size": self.vocabulary,
        }
        floats = {
            "llama.attention.layer_norm_rms_epsilon": self.epsilon,
            "llama.rope.freq_base": self.theta,
        }
        return {
            "general.architecture": Value(type="STRING", data="llama"),
            "general.type": Value(type="STRING", data="model"),
            **{key: Value(type="UINT32", data=number) for key, number in numbers.items()},
            **{
                key: Value(type="FLOAT32", data=rounded(number, "F32"))
                for key, number in floats.items()
            },
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the model's tensors, with their shapes."""
        queries, keys = self.heads * self.head_width, self.key_heads * self.head_width
        inner = {
            "input_layernorm.weight": (self.width,),
            "mlp.down_proj.weight": (self.width, self.inner),
            "mlp.gate_proj.weight": (self.inner, self.width),
            "mlp.up_proj.weight": (self.inner, self.width),
            "post_attention_layernorm.weight": (self.width,),
            "self_attn.k_proj.weight": (keys, self.width),
            "self_attn.o_proj.weight": (self.width, queries),
            "self_attn.q_proj.weight": (queries, self.width),
            "self_attn.v_proj.weight": (keys, self.width),
        }
        table = (self.vocabulary, self.width)
        return {
            "model.embed_tokens.weight": table,
            "model.norm.weight": (self.width,),
            **({} if self.is_tied else {"lm_head.weight": table}),
            **{
                f"model.layers.{layer}.{name}": shape
                for layer in range(self.layers)
                for name, shape in inner.items()
            },
        }

    def heads_of(self, name: str) -> int | None:
        """Return the number of heads whose rows the file has in another order; None if it has not.

        Transformers has the two halves of each head one after the other, llama.cpp their rows by
        turns (`permute` in `conversion/llama.py`).
        """
        if name.endswith("self_attn.q_proj.weight"):
            return self.heads
        return self.key_heads if name.endswith("self_attn.k_proj.weight") else None


def shape_of(config: Mapping[str, object]) -> Shape:
    """Read the config. Raises LockError for one that the file could not say."""
    architecture = ARCHITECTURES.get(str(config.get("model_type")))
    if architecture is None or config.get("architectures") != [architecture]:
        known = ", ".join(ARCHITECTURES.values())
        raise _refusal(f"its architecture is not one of {known}")
    for key, value in config.items():
        if key in _FIXED:
            if value != _FIXED[key] and value is not None:
                raise _refusal(f"{key} in its config is {value!a:.80}, which GGUF could not say")
        elif key not in _FREE:
            raise _refusal(f"its config has {key[:80]!a}, which the converter would drop")
    width, heads = _whole(config, "hidden_size"), _whole(config, "num_attention_heads")
    if config.get("head_dim") is None and width % heads:
        raise _refusal("hidden_size in its config is no multiple of num_attention_heads")
    shape = Shape(
        vocabulary=_whole(config, "vocab_size"),
        layers=_whole(config, "num_hidden_layers"),
        width=width,
        inner=_whole(config, "intermediate_size"),
        heads=heads,
        key_heads=_whole(config, "num_key_value_heads", heads),
        head_width=_whole(config, "head_dim", width // heads),
        context=_whole(config, "max_position_embeddings"),
        epsilon=_float(config, "rms_norm_eps"),
        theta=_theta(config),
        is_tied=_flag(config, "tie_word_embeddings"),
    )
    if shape.layers > _MAX_LAYERS or shape.head_width % 2:
        raise _refusal("num_hidden_layers or head_dim in its config is none that a model has")
    return shape


def check_tensors(shape: Shape, tensors: Mapping[str, Tensor], stored: str) -> None:
    """Refuse a model whose tensors are not those of its config, or cannot be stored that way."""
    wanted = shape.tensors()
    for names, what in (
        (wanted.keys() - tensors.keys(), "it lacks tensor"),
        (tensors.keys() - wanted.keys(), "it has a tensor that the file has no place for,"),
    ):
        if names:
            raise _refusal(f"{what} {min(names)[:120]!a}")
    for name, own in wanted.items():
        tensor = tensors[name]
        if tensor.shape != own:
            raise _refusal(f"{name!a} has shape {tensor.shape}, not {own}")
        if tensor.dtype not in _TYPES:
            raise _refusal(f"{name!a} has numbers of type {tensor.dtype}")
        if len(own) > 1 and own[-1] % BLOCKS[stored][0]:
            raise _refusal(f"{name!a} has rows of {own[-1]} numbers, no multiple of 32")


def named(name: str) -> str:
    """Return the name that a tensor of the model has in the file."""
    layer = _LAYER.fullmatch(name)
    return _OUTER[name] if layer is None else f"blk.{layer[1]}.{_INNER[layer[2]]}"


def _theta(config: Mapping[str, object]) -> float:
    """Return the base of the rotation's angles, by the newer key or the older one."""
    parameters = config.get("rope_parameters")
    if parameters is None:
        return _float(config, "rope_theta")
    if not isinstance(parameters, dict) or "rope_theta" in config:
        raise _refusal("rope_parameters in its config are no mapping, or beside rope_theta")
    if not parameters.keys() <= {"rope_theta", "rope_type"} or (
        parameters.get("rope_type", "default") != "default"
    ):
        raise _refusal("rope_parameters in its config scale positions, which is not compared")
    return _float(parameters, "rope_theta")


def _whole(config: Mapping[str, object], key: str, otherwise: int | None = None) -> int:
    value = config.get(key)
    value = otherwise if value is None else value
    if type(value) is not int or not 0 < value < 1 << 32:
        raise _refusal(f"{key} in its config is no number, or none that a model has")
    return value


def _float(config: Mapping[str, object], key: str) -> float:
    value = config.get(key)
    # `not (a < b)` also refuses NaN.
    if type(value) not in (int, float) or not 0 < value < 1e30:  # type: ignore[operator]
        raise _refusal(f"{key} in its config is no number, or none that a model has")
    return float(value)  # type: ignore[arg-type]


def _flag(config: Mapping[str, object], key: str) -> bool:
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise _refusal(f"{key} in its config is neither true nor false")
    return value


def _refusal(why: str) -> LockError:
    return LockError(f"the model cannot be converted: {why}", hint=_HINT)


_HINT = "docs/spec/convert.md lists what a conversion supports"
