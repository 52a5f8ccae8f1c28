"""Read the config of an evaluation: some of Axolotl's keys, and no other (docs/spec/evaluation.md).

The other keys of a training have no bearing on how well a model fits rows, or would let the config
decide it. Everything else is checked as it is for a training.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aicert.errors import ConfigError
from aicert.formats.evaluation import LONGEST_SEQUENCE
from aicert.formats.fields import MAX_INT
from aicert.formats.lockfile import CONFIG_INPUT
from aicert.formats.run_report_facts import Records
from enclave_runner.axolotl import config, strict_yaml
from enclave_runner.axolotl.config import AppliedOverride, Effective, InputView
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.shared_refusals import require_all_named, require_known_keys

TRAINER = "an evaluation"
BASE, ADAPTER, ROWS = "base_model", "lora_model_dir", "datasets"
KEYS = frozenset(
    (
        ADAPTER,
        BASE,
        ROWS,
        "adapter",
        "attn_implementation",
        "bf16",
        "chat_template",
        "chat_template_jinja",
        "default_system_message",
        "eot_tokens",
        "excess_length_strategy",
        "fp16",
        "min_sample_len",
        "model_type",
        "seed",
        "sequence_len",
        "special_tokens",
        "tf32",
        "tokenizer_type",
        "train_on_inputs",
    )
)
# Axolotl does not start without these keys. Nothing is trained, so they have no effect.
NEEDED: Mapping[str, object] = {
    "gradient_accumulation_steps": 1,
    "learning_rate": 0.0001,
    "micro_batch_size": 1,
    "num_epochs": 1,
    "val_set_size": 0.0,
}
_WHY = "Axolotl asks for it, but nothing is trained"
# Axolotl's own kernels for adapters, which save memory in training and need a GPU.
KERNELS: Mapping[str, object] = {
    "lora_embedding_kernel": False,
    "lora_mlp_kernel": False,
    "lora_o_kernel": False,
    "lora_qkv_kernel": False,
}
_WHY_KERNELS = "an adapter has the same loss on machines with and without a GPU"
# A name of one whole split: with a slice, Axolotl would leave out rows that the report counts.
_SPLIT = re.compile(r"[A-Za-z0-9_.]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A config that passed every check: the effective one, and values that the results repeat."""

    effective: Effective
    base: Reference
    adapter: Reference | None
    seed: int
    sequence_length: int


def read(data: bytes, inputs: Mapping[str, InputView]) -> Settings:
    """Read the config, and check that it names exactly the run's inputs. Raises ConfigError."""
    _check_keys(data)
    inputs = {name: view for name, view in inputs.items() if name != CONFIG_INPUT}
    effective = _complete(config.resolve(data, inputs))
    settings = json.loads(effective.config)
    named = {each.key: each for each in effective.references}
    adapter = named.get(ADAPTER)
    if (settings.get("adapter") or None) != (None if adapter is None else "lora"):
        raise ConfigError(
            f"config: adapter: an adapter needs both `adapter: lora` and `{ADAPTER}: input:NAME`"
        )
    _check_rows(settings, effective)
    require_all_named(TRAINER, {each.name for each in effective.references}, inputs)
    return Settings(
        effective=effective,
        base=named[BASE],
        adapter=adapter,
        seed=_number(settings, "seed", 0, MAX_INT),
        sequence_length=_number(settings, "sequence_len", 1, LONGEST_SEQUENCE),
    )


def _check_keys(data: bytes) -> None:
    try:
        document = strict_yaml.load(data)
    except strict_yaml.YamlError as error:
        raise ConfigError(f"config: {error.message}") from error
    keys = document if isinstance(document, dict) else ()
    require_known_keys(TRAINER, keys, KEYS, hint="docs/spec/evaluation.md lists them")


def _complete(effective: Effective) -> Effective:
    settings = json.loads(effective.config)
    added = {key: (value, _WHY) for key, value in NEEDED.items()}
    if settings.get("adapter"):
        added |= {key: (value, _WHY_KERNELS) for key, value in KERNELS.items()}
    settings |= {key: value for key, (value, _) in added.items()}
    overrides = tuple(
        AppliedOverride(key=key, configured=None, used=value, why=why)
        for key, (value, why) in added.items()
    )
    return replace(
        effective,
        config=strict_yaml.canonical(settings),
        overrides=(*effective.overrides, *overrides),
    )


def _check_rows(settings: Mapping[str, object], effective: Effective) -> None:
    entries = settings.get(ROWS)
    if not isinstance(entries, list) or not entries:
        raise ConfigError(
            f"config: {ROWS}: missing", hint=f"write `{ROWS}: [{{path: input:NAME}}]`"
        )
    for index, entry in enumerate(entries):
        if not _SPLIT.fullmatch(str(entry["split"])) or entry["split"] == "all":
            raise ConfigError(
                f"config: {ROWS}[{index}].split: an evaluation reads one whole split",
                hint="name one split, without a slice",
            )
    if len({each.place for each in effective.selections}) < len(entries):
        raise ConfigError(f"config: {ROWS}: the same rows are named twice")


def check_records(records: tuple[Records, ...]) -> None:
    """Refuse rows that the results could not tell apart. Raises ConfigError."""
    names = [(each.name, each.split) for each in records]
    for name, split in names:
        if names.count((name, split)) > 1:
            raise ConfigError(f"config: {ROWS}: two entries name split {split} of {name}")


def _number(settings: Mapping[str, object], key: str, low: int, high: int) -> int:
    value = settings.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"config: {key}: expected a number from {low} to {high}")
    return value
