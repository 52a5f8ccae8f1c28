"""The Axolotl plugin of a certified run: it seeds before anything random is built, and counts.

It runs in the trainer's process, in the sandbox. What it repeats of the trainer's state is the
trainer's own account, which the runner reports as self-reported. It counts rows itself
(`aicert_counting`), which the runner reports as in-trainer. It writes JSON objects, one per line,
to the pipe in AICERT_PROGRESS_FD; the last lines have `counters` and, from each process, `counted`.
It affects weights only through the seed and the date: a chat template that writes today's date gets
the date of SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, tzinfo
from typing import Any, Self

import aicert_config  # type: ignore[import-not-found]  # it lies beside, as the next three do
import aicert_counting  # type: ignore[import-not-found]
import aicert_hooked  # type: ignore[import-not-found]  # noqa: F401  # it lies beside
import aicert_rows
import datasets
import torch
from axolotl.integrations.base import BasePlugin, PluginManager
from transformers import TrainerCallback
from transformers.trainer_utils import set_seed
from transformers.utils import chat_template_utils

_MAX_LOSSES = 1000
# Measurements of how fast and how far an evaluation is, which are not properties of the model.
_SPEEDS = ("_runtime", "_per_second", "_epoch", "_preparation_time")


class _FixedDate(datetime):
    """Replaces the clock that `strftime_now` asks in chat templates."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Return the fixed moment, in UTC."""
        return cls.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).replace(tzinfo=tz)


chat_template_utils.datetime = _FixedDate
# Axolotl imports its plugins before it looks at a data set.
aicert_rows.install()


def _rank() -> int:
    """Return the number of this process among those that train together."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _tell(message: dict[str, Any], *, everyone: bool = False) -> None:
    descriptor = os.environ.get("AICERT_PROGRESS_FD")
    # Of several trainers only the first reports, unless everyone has to.
    if descriptor is not None and (everyone or _rank() == 0):
        os.write(int(descriptor), (json.dumps(message, allow_nan=False) + "\n").encode("ascii"))


def _finite(value: Any) -> float | None:
    if not isinstance(value, (int, float)):
        return None
    number = float(value)
    return number if number - number == 0.0 else None


def _thinned(losses: list[list[float]]) -> list[list[float]]:
    """Return an evenly spread selection of losses that includes the last one."""
    kept = losses[:: len(losses) // _MAX_LOSSES + 1]
    return [*kept, losses[-1]] if losses and kept[-1] != losses[-1] else kept


class Counter(TrainerCallback):  # type: ignore[misc]  # transformers is not there to mypy
    """Follows one training and reports on it."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self._losses: list[list[float]] = []
        self._eval_losses: list[list[float]] = []
        self._metrics: dict[str, float] = {}
        self._started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = time.monotonic()
        self._rows.begin()
        _tell({"step": 0, "total": state.max_steps})

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._rows.begin_pass()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._rows.step()
        _tell({"step": state.global_step, "total": state.max_steps})

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        loss = _finite((logs or {}).get("loss"))
        if loss is not None:
            self._losses.append([state.global_step, loss])
            _tell({"step": state.global_step, "total": state.max_steps, "loss": loss})

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value in (metrics or {}).items():
            number = _finite(value)
            if number is None or not name.startswith("eval_") or name.endswith(_SPEEDS):
                continue
            if name == "eval_loss":
                self._eval_losses.append([state.global_step, number])
            else:
                self._metrics[name] = number

    def on_train_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        counters: dict[str, Any] = {
            "steps": state.global_step,
            "totalSteps": state.max_steps,
            "tokens": int(state.num_input_tokens_seen),
            "flops": int(state.total_flos),
            "losses": _thinned(self._losses),
            "evalLosses": _thinned(self._eval_losses),
            "metrics": self._metrics,
            "epochs": _finite(state.epoch),
            "trainSeconds": round(time.monotonic() - self._started, 3),
            "torch": torch.__version__,
            "cpuCapability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "device": str(args.device),
        }
        if model is not None:
            sizes = [(each.numel(), each.requires_grad) for each in model.parameters()]
            counters["parameters"] = sum(size for size, _ in sizes)
            counters["trainableParameters"] = sum(size for size, trained in sizes if trained)
        _tell({"counters": counters})
        counted = self._rows.result()
        # If the weights go back to an earlier step at the end, the rows up to that step are not
        # known.
        if counted is not None and not args.load_best_model_at_end:
            _tell({"counted": {"process": _rank(), **counted}}, everyone=True)


class CertifiedRun(BasePlugin):  # type: ignore[misc]  # nor is axolotl
    """The plugin that the effective config names in `plugins`."""

    def register(self, cfg: Any) -> None:
        if "axolotl.integrations.spectrum.SpectrumPlugin" in cfg["plugins"]:
            # Axolotl looks for its own files below the directory that the training runs in.
            from axolotl.integrations import spectrum

            folder = os.path.join(os.path.dirname(spectrum.__file__), "model_snr_results", "")
            spectrum.SpectrumPlugin.base_path = folder

    def load_datasets(self, cfg: Any, preprocess: bool = False) -> None:
        # If a plugin cannot be imported, Axolotl logs that and trains without it.
        absent = [
            name for name in cfg["plugins"] if name not in PluginManager.get_instance().plugins
        ]
        if absent:
            raise ValueError(f"config: Axolotl could not import {', '.join(absent)}")
        # The runner wrote this config, as JSON.
        with open(cfg.axolotl_config_path, encoding="ascii") as file:
            lost = list(aicert_config.lost_keys(json.load(file), cfg))
        if lost:
            raise ValueError(f"config: Axolotl's validation dropped {', '.join(lost)}")
        if cfg.world_size > 1 and not torch.cuda.is_available():
            # Axolotl would give each process an accelerator of its own, by number.
            cfg.device_map = {"": "cpu"}

    def pre_model_load(self, cfg: Any) -> None:
        set_seed(cfg.seed)

    def pre_lora_load(self, cfg: Any, model: Any) -> None:
        # Axolotl builds adapters before it seeds anything, so each run would start differently.
        set_seed(cfg.seed)

    def get_training_args(self, cfg: Any) -> dict[str, Any]:
        return {"include_num_input_tokens_seen": "non_padding"}

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[TrainerCallback]:
        rows = aicert_counting.RowCount(cfg.world_size or 1)
        if getattr(cfg.rl, "value", cfg.rl) in aicert_counting.KINDS:
            rows.follow(trainer, datasets.Dataset)
        return [Counter(rows)]
