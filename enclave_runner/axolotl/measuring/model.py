"""Load the model as the training began with it, and the model with the output's weights.

Axolotl's own loader builds both from the effective config and the base model's config. Only tensors
are read from the output, in safetensors files: nothing that it says about itself is used.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from enclave_runner.axolotl.measuring.errors import CannotMeasureError
from enclave_runner.axolotl.measuring.rows import IGNORED, Example

# A token's loss counts at most this much, in nats; a loss that is not a number counts as much.
MOST = 100.0
# Losses are computed in 32 bits, this many tokens at a time.
_TOKENS = 1024
_ADAPTER = "adapter_model.safetensors"


def load_before(cfg: Any, tokenizer: Any) -> Any:
    """Load the model that training starts from: base weights, and an adapter if there is one."""
    from axolotl.loaders import ModelLoader

    # With `rl`, Axolotl loads the model without the adapter, since trainers of pairs add it
    # themselves.
    kind, cfg.rl = cfg.rl, None
    model, _ = ModelLoader(cfg, tokenizer).load()
    cfg.rl = kind
    return model.eval()


def load_after(model: Any, files: Iterable[Path], scratch: Path) -> Any:
    """Load the output's model: an adapter into `model`, full weights in place of `model`."""
    weights = {path.name: path for path in files}
    adapter = weights.pop(_ADAPTER, None)
    if adapter is not None:
        if not hasattr(model, "peft_config"):
            raise CannotMeasureError("the output holds an adapter, but the config trains none")
        return _with_adapter(model, adapter)
    if not weights:
        raise CannotMeasureError("the output holds no weights in safetensors files")
    return _full(model, weights, scratch)


def _with_adapter(model: Any, adapter: Path) -> Any:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = load_file(adapter)
    wanted = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    _complete(wanted - set(state), "lacks")
    set_peft_model_state_dict(model, state)
    return model.eval()


def _full(model: Any, weights: dict[str, Path], scratch: Path) -> Any:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config, kind, device, dtype = inner.config, type(inner), inner.device, inner.dtype
    # The weights of `model` are no longer needed, and two models may not fit into memory.
    inner.to("meta")
    folder = scratch / "after"
    folder.mkdir()
    names: dict[str, str] = {}
    for name, path in weights.items():
        (folder / name).symlink_to(path)
        with safe_open(path, framework="pt") as file:
            names |= dict.fromkeys(file.keys(), name)
    if set(weights) != {"model.safetensors"}:
        index = {"metadata": {}, "weight_map": names}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    # The loader looks for this file, but no loss depends on it.
    (folder / "generation_config.json").write_text("{}", encoding="utf-8")
    loaded, facts = kind.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        local_files_only=True,
        output_loading_info=True,
        use_safetensors=True,
    )
    _complete(facts["missing_keys"], "lacks")
    _complete(facts["mismatched_keys"], "changes the shape of")
    return loaded.to(device).eval()


def _complete(names: Iterable[Any], what: str) -> None:
    tensors = sorted(str(name) for name in names)
    if tensors:
        raise CannotMeasureError(
            f"the output {what} {len(tensors)} tensors of the model that was trained: "
            f"{tensors[0][:80]}"
        )


def loss_of(model: Any, cfg: Any, example: Example) -> float:
    """Return the sum of the losses of the trained tokens, in nats."""
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([example.ids], device=device)
    with torch.inference_mode(), _precision(cfg, device.type):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    total = 0.0
    labels = torch.tensor(example.labels[1:], device=logits.device)
    for begin in range(0, len(labels), _TOKENS):
        part = slice(begin, begin + _TOKENS)
        each = torch.nn.functional.cross_entropy(
            logits[0, :-1][part].float(), labels[part], ignore_index=IGNORED, reduction="none"
        )
        each = torch.nan_to_num(each, nan=MOST, posinf=MOST).clamp(max=MOST)
        total += float(each[labels[part] != IGNORED].double().sum())
    return total


def _precision(cfg: Any, device: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context that computes with the trainer's precision."""
    if cfg.bf16 or cfg.fp16:
        kind = torch.bfloat16 if cfg.bf16 else torch.float16
        return torch.autocast(device, dtype=kind)  # type: ignore[no-any-return]  # it is one
    return contextlib.nullcontext()
