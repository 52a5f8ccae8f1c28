"""Which keys of a config need a GPU, reported before a machine without one is started.

These are hints, not errors: what happens without a GPU is for Axolotl to decide. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_KERNELS = tuple(f"lora_{part}_kernel" for part in ("mlp", "qkv", "o", "embedding"))
_FLASH = ("flash_attention", "xformers_attention", "flex_attention", "sage_attention")
_ON_PROCESSORS = ("eager", "sdpa")


def without_gpu(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield, for each key that asks for a GPU, the key and the line to write instead."""
    for key in ("bf16", "fp16", "tf32", "fp8"):
        if settings.get(key) not in (None, False):
            yield key, f"{key}: false"
    if settings.get("bf16") is None and settings.get("fp16") is None:
        yield "bf16", "bf16: false"
    attention = settings.get("attn_implementation")
    flash = next((key for key in _FLASH if settings.get(key)), None)
    if flash is not None:
        yield flash, "attn_implementation: sdpa"
    elif isinstance(attention, str) and attention not in _ON_PROCESSORS:
        yield "attn_implementation", "attn_implementation: sdpa"
    if settings.get("deepspeed"):
        yield "deepspeed", "deepspeed: null"
    if settings.get("adapter") in ("lora", "qlora"):
        asked = [key for key in _KERNELS if settings.get(key)]
        for key in asked:
            yield key, f"{key}: false"
        if not asked and all(settings.get(key) is None for key in _KERNELS):
            # Axolotl enables them itself unless one is set.
            yield "adapter", f"{_KERNELS[0]}: false"
