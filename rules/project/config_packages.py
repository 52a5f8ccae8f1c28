"""Which packages a config needs that the locks of the training environment do not have.

Axolotl and Transformers import them when a training starts, which is after the machine costs money.
No I/O except for reading the locks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rules.host.training_env import LOCK

_TORCHAO = "torchao"
# Packages of optimizers, whose names may be prefixes (`transformers/trainer_optimizer.py`,
# Axolotl's `core/builders/base.py`).
_OPTIMIZERS: Mapping[str, str] = {
    "adamw_torch_4bit": _TORCHAO,
    "adamw_torch_8bit": _TORCHAO,
    "ao_*": _TORCHAO,
    "apollo_*": "apollo-torch",
    "adalomo": "lomo-optim",
    "lomo": "lomo-optim",
    "came_pytorch": "came-pytorch",
    "flash_*": "flashoptim",
    "galore_*": "galore-torch",
    "grokadamw": "grokadamw",
    "optimi_adamw": "torch-optimi",
    "stable_adamw": "torch-optimi",
    "q_galore_adamw8bit": "q-galore-torch",
    "schedule_free_*": "schedulefree",
}
_ATTENTION: Mapping[str, str] = {
    "flash_attention_2": "flash-attn",
    "flash_attention_3": "flash-attn-3",
    "flash_attention_4": "flash-attn-4",
    "sage": "sageattention",
    "xformers": "xformers",
}
_ATTENTION_SWITCHES: Mapping[str, str] = {
    "flash_attention": "flash-attn",
    "sage_attention": "sageattention",
    "xformers_attention": "xformers",
}
_OTHERS: Mapping[str, tuple[str, str]] = {
    "deepspeed": ("deepspeed", "deepspeed: null"),
    "qat": (_TORCHAO, "qat: null"),
    "use_onebitllms": ("onebitllms", "use_onebitllms: false"),
}
_ACROSS_CONTEXTS = "context_parallel_size"
_SDPA = "attn_implementation: sdpa"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lacking:
    """A key that needs a package that no lock has. `line`: what to write instead."""

    key: str
    package: str
    line: str


def locked_packages() -> frozenset[str]:
    """Return the packages of the training environment."""
    return frozenset(re.findall(r"(?m)^([a-z0-9.-]+)==", LOCK.read_text(encoding="utf-8")))


def lacking(settings: Mapping[str, object], packages: frozenset[str]) -> Iterator[Lacking]:
    """Yield the missing packages that an effective config needs."""
    for key, package, line in _needed(settings):
        if package not in packages:
            yield Lacking(key=key, package=package, line=line)


def _needed(settings: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    optimizer = str(settings.get("optimizer") or "")
    for name, package in _OPTIMIZERS.items():
        if optimizer == name or (name.endswith("*") and optimizer.startswith(name[:-1])):
            yield "optimizer", package, "optimizer: adamw_torch_fused"
    attention = _ATTENTION.get(str(settings.get("attn_implementation")))
    if attention is not None:
        yield "attn_implementation", attention, _SDPA
    for key, package in _ATTENTION_SWITCHES.items():
        if settings.get(key):
            yield key, package, _SDPA
    for key, (package, line) in _OTHERS.items():
        if settings.get(key):
            yield key, package, line
    if settings.get(_ACROSS_CONTEXTS) not in (None, 0, 1):
        yield _ACROSS_CONTEXTS, "ring-flash-attn", f"{_ACROSS_CONTEXTS}: 1"
