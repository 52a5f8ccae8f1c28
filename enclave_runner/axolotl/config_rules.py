"""The tables behind `config.py`: what an Axolotl config may not contain, and what the runner sets.

Key names are Axolotl's (0.19.0); a dotted key is nested, and applies to every element of a list.
The tables come from reading where Axolotl's code imports modules by name, loads from a hub, opens
paths, resumes and reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from enclave_runner.sandbox.places import OUTPUT, SCRATCH


class ConfigRefused(ConfigError):  # noqa: N818 - says what happened
    """Raised for a config that asks for something that a certified run cannot do.

    `key`: the key in question; empty for the whole config.
    """

    def __init__(self, key: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"config: {key}: {reason}" if key else f"config: {reason}", hint=hint)
        self.key = key


PLUGIN = "aicert_axolotl.CertifiedRun"
DEFAULT_SEED = 42

_CODE = "it imports code by name, but only the measured image's code may run"
_HUB = "it needs a hub, but training has no network: lock it as an input"
LEAVES = "it sends results elsewhere, but only outputs may leave the machine"
_RESUME = "it resumes earlier training, but a run starts from its inputs only"
_PINNED = "the input's digest names the revision"
_FILES = "it chooses files other than those of `base_model`: name their folder there"
_PARALLEL = "it starts workers over a network, but training has none"
CONFIG_IS_PUBLIC = "a config is public: it is quoted in reports"

# Accepted if an input of the run has `allow-remote-code`.
REMOTE_CODE = "trust_remote_code"
# Refused unless null, false or empty.
REFUSED: Mapping[str, str] = {
    "liger_use_token_scaling": "it changes the loss, through a kernel that needs a GPU",
    "trainer_cls": _CODE,
    "torchdistx_path": _CODE,
    "trl.reward_funcs": _CODE,
    "trl.rollout_func": _CODE,
    REMOTE_CODE: _CODE,
    "datasets.trust_remote_code": _CODE,
    "test_datasets.trust_remote_code": _CODE,
    "pretraining_dataset.trust_remote_code": _CODE,
    "use_kernels": "it loads kernels from a hub, but only the measured image's code may run",
    "do_causal_lm_eval": "its metrics are code from a hub",
    "do_bench_eval": "its metric is code from a hub",
    "bench_dataset": _HUB,
    "resume_from_checkpoint": _RESUME,
    "auto_resume_from_checkpoints": _RESUME,
    "axolotl_config_path": "the runner sets it",
    "processor_type": "it opens images, audio and video that rows name: these are not read",
    "added_tokens_overrides": (
        "Axolotl saves the tokenizer, edits its files and loads the unchecked result: rename the "
        "tokens in an input, and name that: `tokenizer_config: input:NAME`"
    ),
    "merge_lora": "training ends with the adapter: merge it in a run with trainer = axolotl-merge",
    "gradio_share": LEAVES,
    "use_ray": f"{_PARALLEL}: write `ranks = N` in the run, for N processes on one machine",
    "trl.use_vllm": _PARALLEL,
    "trl.vllm_server_host": _PARALLEL,
    "vllm": "it configures a server that no training here starts",
}

_LAYOUT = "Axolotl ignores it: it says where parameters lie and when they move, not what they are"
_LAYOUT_KEYS = ("backward_prefetch", "forward_prefetch", "limit_all_gathers", "sharding_strategy")
# Dropped and recorded unless null, false or empty: they do not affect what is trained.
DROPPED: Mapping[str, str] = {
    "revision_of_model": _PINNED,
    "model_revision": _PINNED,
    "datasets.revision": _PINNED,
    "test_datasets.revision": _PINNED,
    "hub_model_id": LEAVES,
    "hub_strategy": LEAVES,
    "hub_revision": LEAVES,
    "push_to_hub": LEAVES,
    "push_dataset_to_hub": LEAVES,
    "hf_use_auth_token": LEAVES,
    "hf_mlflow_log_artifacts": LEAVES,
    **{f"fsdp_config.{prefix}{key}": _LAYOUT for key in _LAYOUT_KEYS for prefix in ("", "fsdp_")},
}

BY_ITSELF = "Axolotl does not read it here, and does the same by itself"
_MESSAGES: Mapping[str, object] = {
    "message_property_mappings": {"role": "role", "content": "content"},
    "roles": {each: [each] for each in ("user", "assistant", "system", "tool")},
}
_STEPS: Mapping[str, object] = {
    "step_separator": "\n",
    "max_completion_length": None,
    "train_on_last_step_only": False,
}
_TEXTS: Mapping[str, object] = {"field": "text"}
# The values that Axolotl uses where it loses a key of an entry of rows: (its model of the entry,
# the entry's type) → key → value (`prompt_strategies/dpo/chat_template.py`,
# `stepwise_supervised.py`). If a config asks for nothing else, training does what it says; the key
# is dropped and recorded.
TAKEN_BY_ITSELF: Mapping[tuple[str, str], Mapping[str, object]] = {
    ("DPODataset", "chat_template"): _MESSAGES,
    ("DPODataset", "chat_template.default"): _MESSAGES,
    ("DPODataset", "chat_template.argilla_chat"): _MESSAGES,
    ("SFTDataset", "stepwise_supervised"): _STEPS,
    ("PretrainingDataset", ""): _TEXTS,
    ("PretrainingDataset", "pretrain"): _TEXTS,
    ("PretrainingDataset", "completion"): _TEXTS,
}

# First-level keys with these prefixes belong to trackers: dropped and recorded too.
TRACKERS = ("wandb_", "mlflow_", "comet_", "trackio_", "otel_")
TRACKER_SWITCHES = ("use_wandb", "use_mlflow", "use_comet", "use_trackio", "use_otel_metrics")

# Keys that may not occur, at any depth, in a mapping that Axolotl passes on unchanged.
REFUSED_ANYWHERE: Mapping[str, str] = {
    "trust_remote_code": _CODE,
    "auto_map": _CODE,
    "custom_pipelines": _CODE,
    "code_revision": _CODE,
    "use_kernels": _CODE,
    "custom_generate": _CODE,
    "revision": _PINNED,
    "cache_dir": "nothing is kept between runs",
    "gguf_file": "it names a file: use `input:`",
    "adapter_kwargs": _FILES,
    "kernel_config": _CODE,
    "subfolder": _FILES,
    "transformers_weights": _FILES,
    "variant": _FILES,
    "pickle_module": _CODE,
}
# Settings that such a mapping may not turn off.
REFUSED_WHEN_FALSE: Mapping[str, str] = {
    "weights_only": "without it, loading weights runs code that the file names",
    "use_safetensors": "without it, loaders look for pickles",
}
SECRET_PARTS = ("api_key", "apikey", "secret", "password", "passwd", "credential")
SECRET_KEYS = ("token", "auth_token", "access_token", "hf_token", "use_auth_token")

# Must be `input:` references if set: each names a model, tokenizer, data set or adapter.
REFERENCES = frozenset(
    (
        "base_model",
        "base_model_config",
        "tokenizer_config",
        "lora_model_dir",
        "datasets.path",
        "datasets.data_files",
        "test_datasets.path",
        "test_datasets.data_files",
        "pretraining_dataset",
        "pretraining_dataset.path",
        "pretraining_dataset.data_files",
    )
)
# May be references: Axolotl takes either a path here or something else.
MAYBE_REFERENCES = frozenset(
    ("deepspeed", "chat_template_jinja", "datasets.chat_template_jinja",
     "test_datasets.chat_template_jinja")
)  # fmt: skip

# References below these keys have the role of rows; other roles are in `ROLES`.
ROWS = ("datasets", "test_datasets", "pretraining_dataset")
# The values with which an entry asks Axolotl to make rows itself, without an input.
GENERATED_TYPE = "_synthetic"
GENERATED_PATH = "synthetic"
# Keys of an entry that the runner reads: the runner chooses the files, and Axolotl gets their rows.
OWN_ROWS_KEYS = ("path", "name", "data_files", "ds_type", "split")
ROLES: Mapping[str, str] = {
    "base_model": "model",
    "base_model_config": "model",
    "tokenizer_config": "tokenizer",
    "lora_model_dir": "adapter",
}

# Names of classes in transformers; a dot or a slash would reach elsewhere.
IDENTIFIERS = frozenset(
    ("type_of_model", "model_type", "tokenizer_type", "processor_type", "cls_model_config")
)
CHOICES: Mapping[str, tuple[str, ...]] = {
    # `ds_type` goes to datasets' loader, which takes a directory or a hub name as well.
    "ds_type": ("json", "csv", "text", "parquet", "arrow"),
    "input_transform": ("chat", "chat.load"),
}

# Everything below these keys is text that people write for models: a slash in it does not make it a
# path.
TEXT = frozenset(
    (
        "chat_template_kwargs",
        "completion_format",
        "chosen_format",
        "default_system_message",
        "end",
        "eot_tokens",
        "format",
        "gradio_title",
        "lora_target_modules",
        "lora_target_parameters",
        "message_property_mappings",
        "modules",
        "no_input_format",
        "prompt_format",
        "rejected_format",
        "roles",
        "special_tokens",
        "spectrum_model_name",
        "start",
        "step_separator",
        "system_format",
        "system_prompt",
        "tokens",
        "unfrozen_parameters",
        "vllm_guided_decoding_regex",
    )
)

# Mappings whose keys are numbers.
NUMBERED = frozenset(("max_memory", "peft_trainable_token_indices"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """One key that the runner sets.

    `unless`: if the config uses one of these keys, the config's value stays. `only_when_absent`:
    the config's value stays if there is one.
    """

    key: str
    value: object
    why: str
    unless: tuple[str, ...] = ()
    only_when_absent: bool = False


NO_CHECKPOINTS = "checkpoints are never part of an output"
_KEEPS = ("load_best_model_at_end", "early_stopping_patience")

# All keys that the runner adds or overrides in a config, in order. A value of None removes the key.
OVERRIDES: tuple[Override, ...] = (
    Override(key="output_dir", value=OUTPUT, why="outputs are taken from this one place"),
    Override(
        key="dataset_prepared_path",
        value=f"{SCRATCH}/prepared",
        why="an empty cache: Axolotl's cache key does not cover the data",
    ),
    Override(
        key="seed", value=DEFAULT_SEED, why="Axolotl's own default", only_when_absent=True
    ),
    Override(
        key="plugins", value=[PLUGIN], why="it seeds before anything is built, and counts steps"
    ),
    Override(key="include_tkps", value=False, why="it measures speed, which differs in every run"),
    Override(key="save_strategy", value="no", why=NO_CHECKPOINTS, unless=_KEEPS),
    Override(key="save_steps", value=None, why=NO_CHECKPOINTS, unless=_KEEPS),
    Override(key="saves_per_epoch", value=None, why=NO_CHECKPOINTS, unless=_KEEPS),
    Override(key="save_first_step", value=None, why=NO_CHECKPOINTS, unless=_KEEPS),
)  # fmt: skip

# Keys whose values in a config are never used, so that a path in them does not matter.
OVERRIDDEN = frozenset(
    each.key for each in OVERRIDES if not each.unless and not each.only_when_absent
)
