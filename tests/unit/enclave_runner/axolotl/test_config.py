"""Which configs the runner accepts, what it makes of them, and why it refuses the others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from enclave_runner.axolotl import config_rules, plugins
from enclave_runner.axolotl.config import Effective, InputView, resolve
from enclave_runner.axolotl.config_rules import ConfigRefused
from enclave_runner.axolotl.known_keys import axolotl_keys

INPUTS = {
    "model": InputView(is_file=False, files=frozenset(("config.json", "sub/model.safetensors"))),
    "alpaca": InputView(is_file=False, files=frozenset(("train.jsonl", "chat.jinja"))),
    "rows": InputView(is_file=True),
}
BASE = "base_model: input:model\n"


def accepted(text: str) -> Effective:
    return resolve((BASE + text).encode(), INPUTS)


def settings(text: str) -> dict[str, object]:
    loaded = json.loads(accepted(text).config)
    assert isinstance(loaded, dict)
    return loaded


def refusal(text: str) -> ConfigRefused:
    with pytest.raises(ConfigRefused) as caught:
        resolve((BASE + text).encode(), INPUTS)
    return caught.value


def test_references_become_paths_in_the_sandbox() -> None:
    used = settings(
        "tokenizer_config: input:model/sub\n"
        "datasets: [{path: 'input:alpaca/train.jsonl', type: alpaca}, {path: 'input:rows'}]\n"
        "chat_template: jinja\nchat_template_jinja: input:alpaca/chat.jinja\n"
    )
    assert used["base_model"] == "/aicert/inputs/model"
    assert used["tokenizer_config"] == "/aicert/inputs/model/sub"
    assert used["chat_template_jinja"] == "/aicert/inputs/alpaca/chat.jinja"
    assert used["datasets"] == [
        {"path": "/aicert/records/alpaca/0", "split": "train", "type": "alpaca"},
        {"path": "/aicert/records/rows/0", "split": "train"},
    ]


def test_references_are_told_with_what_the_trainer_takes_them_for() -> None:
    references = accepted(
        "tokenizer_config: input:model/sub\nlora_model_dir: input:model\n"
        "datasets: [{path: 'input:alpaca', data_files: ['input:alpaca/train.jsonl'],\n"
        "            type: alpaca,\n"
        "            chat_template_jinja: 'input:alpaca/chat.jinja'}]\n"
        "test_datasets: [{path: input:alpaca, split: train}]\n"
        "chat_template: jinja\nchat_template_jinja: input:alpaca/chat.jinja\n"
    ).references
    assert [
        (each.role, each.key, each.place.removeprefix("/aicert/inputs/")) for each in references
    ] == [
        ("model", "base_model", "model"),
        ("tokenizer", "tokenizer_config", "model/sub"),
        ("adapter", "lora_model_dir", "model"),
        ("data", "datasets.path", "alpaca"),
        ("data", "datasets.data_files", "alpaca/train.jsonl"),
        ("file", "datasets.chat_template_jinja", "alpaca/chat.jinja"),
        ("data", "test_datasets.path", "alpaca"),
        ("file", "chat_template_jinja", "alpaca/chat.jinja"),
    ]


def test_every_override_is_applied_and_told() -> None:
    effective = accepted("output_dir: ./out\nsave_steps: 5\ninclude_tkps: true\nseed: 7\n")
    used = json.loads(effective.config)
    assert used["output_dir"] == "/aicert/scratch/output"
    assert used["plugins"] == [config_rules.PLUGIN]
    assert used["save_strategy"] == "no"
    assert used["seed"] == 7
    assert "save_steps" not in used
    overrides = {each.key: (each.configured, each.used) for each in effective.overrides}
    assert overrides["output_dir"] == ("./out", "/aicert/scratch/output")
    assert overrides["save_steps"] == (5, None)
    assert overrides["include_tkps"] == (True, False)
    assert "seed" not in overrides


def test_a_config_that_needs_checkpoints_keeps_them() -> None:
    used = settings("load_best_model_at_end: true\nsave_steps: 5\n")
    assert used["save_steps"] == 5
    assert "save_strategy" not in used


def test_the_effective_config_does_not_depend_on_order() -> None:
    first = accepted("seed: 1\nlearning_rate: 0.5\n")
    assert first.config == accepted("learning_rate: 0.5\nseed: 1\n").config
    assert first.digest.startswith("sha256:")


def test_a_value_that_is_no_input_is_refused_with_the_form_and_every_input() -> None:
    with pytest.raises(ConfigRefused) as caught:
        resolve(b"base_model: gpt2\n", INPUTS)
    names = ", ".join(sorted(INPUTS))
    form = "`input:NAME` or `input:NAME/FILE`, where NAME is one of: "
    assert caught.value.hint == form + names
    with pytest.raises(ConfigRefused) as caught:
        resolve(b"base_model: gpt2\n", {})
    assert caught.value.hint == "declare it under the run's inputs"


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("learning_rtae: 3", "learning_rtae", "`learning_rate`"),
        ("datasets: [{path: input:rows, tpye: alpaca}]", "datasets[0].tpye", "`type`"),
        ("trl: {bta: 1}", "trl.bta", "`beta`"),
        ("datasets: [{path: input:alpca}]", "datasets[0].path", "`alpaca`"),
        ("datasets: [{path: input:alpaca/trian.jsonl}]", "datasets[0].path", "`train.jsonl`"),
        ("datasets: [{path: input:rows, type: alpacca}]", "datasets[0].type", "`alpaca`"),
        ("datasets: [{path: input:rows, ds_type: jsonl}]", "datasets[0].ds_type", "`json`"),
    ],
)
def test_a_slip_is_refused_with_the_nearest_valid_name(text: str, key: str, hint: str) -> None:
    error = refusal(text)
    assert error.key == key
    assert key in error.message
    assert error.hint is not None
    assert hint in error.hint


@pytest.mark.parametrize(
    "text",
    [
        *(f"{key}: x" for key in ("trainer_cls", "torchdistx_path", "resume_from_checkpoint")),
        "plugins: [my_package.MyPlugin]",
        "plugins: [axolotl.integrations.base.BasePlugin]",
        "plugins: [os.path]",
        "plugins: axolotl.integrations.liger.LigerPlugin",
        "wandb_secret: abc",
        "trust_remote_code: true",
        "datasets: [{path: input:rows, trust_remote_code: true}]",
        "datasets: [{path: input:rows, type: os.system}]",
        "datasets: [{path: input:rows, type: my_module.load}]",
        "datasets: [{path: input:rows, type: chat_template, input_transform: evil}]",
        "datasets: [{path: input:rows, ds_type: input:alpaca}]",
        "datasets: [{path: json, data_files: [input:rows]}]",
        "datasets: [{path: input:alpaca, data_files: [/etc/passwd]}]",
        "pretraining_dataset: tatsu-lab/alpaca",
        "pretraining_dataset: [{path: s3://bucket/x}]",
        "test_datasets: [{path: tatsu-lab/alpaca}]",
        "trl: {reward_funcs: [rewards.good]}",
        "trl: {rollout_func: rollouts.it}",
        "trl: {use_vllm: true}",
        "vllm: {max_model_len: 2048}",
        "vllm: {serve_module: x.y}",
        "vllm: {worker_extension_cls: x.y}",
        "auto_resume_from_checkpoints: true",
        "use_kernels: true",
        "use_ray: true",
        "do_causal_lm_eval: true",
        "do_bench_eval: true",
        "comet_api_key: abc",
        "model_kwargs: {trust_remote_code: true}",
        "model_kwargs: {weights_only: false}",
        "model_kwargs: {weights_only: null}",
        "model_kwargs: {use_safetensors: false}",
        "model_kwargs: {pickle_module: os}",
        "overrides_of_model_config: {auto_map: {AutoModel: x.Y}}",
        "model_kwargs: {nested: [{token: abc}]}",
        "model_kwargs: {aws_secret: abc}",
        "lora_model_dir: me/adapter",
        "tokenizer_config: meta-llama/Llama-3.1-8B",
        "tokenizer_config: ../model",
        "tokenizer_config: 7",
        "tokenizer_config: input:Model",
        "tokenizer_config: input:rows/x",
        "tokenizer_config: input:model/../alpaca",
        "tokenizer_type: os.path",
        "type_of_model: a/b",
        "attn_implementation: kernels-community/flash-attn2",
        "deepspeed: deepspeed_configs/zero3.json",
        "chat_template_jinja: /etc/passwd",
        "chat_template_jinja: templates",
        # Folders may have such names, and the host can write to /proc.
        "chat_template_jinja: '//aicert/inputs/model/{a}/../../../../proc/partitions'",
        "chat_template_jinja: /aicert/inputs/model/{a}/t",
        "chat_template_jinja: 'output/{a}/../../../proc/partitions'",
        "processor_type: AutoProcessor",
        "added_tokens_overrides: {128041: </think>}",
        "learning_rate: input:rows",
        "dynamic_checkpoint: {trigger_file_path: /tmp/x}",
        "axolotl_config_path: x",
        "merge_lora: true",
    ],
)
def test_what_a_training_cannot_do_is_refused(text: str) -> None:
    error = refusal(text)
    assert error.key
    assert error.exit_code == 3


@pytest.mark.parametrize(
    "text",
    [
        "plugins: []\nwandb_project:\nhub_model_id: ''\ntrust_remote_code: false",
        "rl: dpo\ndatasets: [{path: input:rows, type: chatml.intel}]",
        "datasets: [{path: input:rows, type: {format: 'input: {input} /', field_output: a/b}}]",
        "special_tokens: {pad_token: </s>}",
        "tokens: [<a/b>]\npeft_trainable_token_indices: {embed_tokens: [1]}",
        "deepspeed: input:rows",
        "unfrozen_parameters: ['^lm_head.weight$', 'model/layers']",
        "chat_template_jinja: '{{ a / b }}'",
        "chat_template_jinja: '{{ a }}../..{{ b }}'",
        "lora_target_modules: [q_proj, v_proj]",
    ],
)
def test_what_axolotl_users_write_is_taken(text: str) -> None:
    accepted(text)


def test_a_template_of_the_config_is_a_file_that_the_runner_writes(tmp_path: Path) -> None:
    first, second = "{{ messages }}\u20ac", "proc/{a}"
    effective = accepted(
        f"chat_template_jinja: '{first}'\n"
        f"datasets: [{{path: input:rows, type: chat_template, chat_template_jinja: '{second}'}}]\n"
    )
    used = json.loads(effective.config)
    written = effective.show_templates(tmp_path / "templates")
    places = (used["chat_template_jinja"], used["datasets"][0]["chat_template_jinja"])
    assert [written[place].read_text("utf-8") for place in places] == [first, second]
    # Axolotl gets neither text, whatever files there are.
    assert "messages" not in effective.config.decode()
    assert "{a}" not in effective.config.decode()
    for place, file in written.items():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert place == f"/aicert/templates/{digest}.jinja"
    assert accepted("").show_templates(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("datasets: [{path: synthetic, type: _synthetic, length: 8}]", "datasets[0].type"),
        ("datasets: [{path: input:rows}, {type: _synthetic, seed: 1}]", "datasets[1].type"),
        ("datasets: [{path: input:rows, type: _synthetic.load}]", "datasets[0].type"),
        ("rl: dpo\ndatasets: [{path: input:rows, type: '_synthetic:x'}]", "datasets[0].type"),
        ("test_datasets: [{path: synthetic, type: alpaca}]", "test_datasets[0].path"),
        ("pretraining_dataset: [{path: synthetic}]", "pretraining_dataset[0].path"),
    ],
)
def test_rows_that_the_trainer_would_make_are_refused(text: str, key: str) -> None:
    error = refusal(text)
    assert error.key == key
    assert "come from no input" in error.message


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (
            "pretraining_dataset: [{path: input:rows, field: a}]",
            "pretraining_dataset[0].field",
            "with `pretraining_dataset` Axolotl does not read it",
        ),
        (
            "adapter: lora\nreinit_weights: true",
            "reinit_weights",
            "base model that it was not trained on",
        ),
        (
            "process_reward_model: true\ntype_of_model: LlamaForCausalLM",
            "type_of_model",
            "is not a class for `process_reward_model`",
        ),
        ("rl: ebft\nebft: {ce_coef: 1, rl_coef: 0}", "ebft.ce_coef", "would be measured"),
        *(
            (
                f"{mapping}: {{{key}: x}}",
                f"{mapping}.{key}",
                "files other than those of `base_model`",
            )
            for mapping, key in (
                ("overrides_of_model_kwargs", "subfolder"),
                ("overrides_of_model_kwargs", "variant"),
                ("overrides_of_model_kwargs", "adapter_kwargs"),
                ("overrides_of_model_config", "transformers_weights"),
            )
        ),
    ],
)
def test_what_would_read_other_rows_or_weights_is_refused(text: str, key: str, words: str) -> None:
    error = refusal(text)
    assert error.key == key
    assert words in error.message
    accepted("reinit_weights: true")


def test_a_template_that_no_file_can_hold_is_refused() -> None:
    assert "UTF-8" in refusal('chat_template_jinja: "{{ a }}\\uD800"\n').message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("max_steps: forty", "max_steps: 'forty' is not a whole number"),
        ("learning_rate: fast", "learning_rate: 'fast' is not a number"),
        ("num_epochs: one", "num_epochs: 'one' is not a number"),
        ("eval_steps: 0,1", "eval_steps: '0,1' is not a number"),
        ("seed: ['a']", "seed[0]: 'a' is not a whole number"),
    ],
)
def test_text_where_axolotl_takes_numbers_only_is_refused(line: str, words: str) -> None:
    assert refusal(line).message == f"config: {words}"


@pytest.mark.parametrize(
    "line",
    ["max_steps: '40'", "adam_epsilon: 1e-8", "learning_rate: '2e-5'", "bf16: auto", "fp16: 'Off'"],
)
def test_text_that_axolotl_may_read_as_a_number_is_left_to_it(line: str) -> None:
    accepted(line)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("wandb_project: mine\nuse_mlflow: true", ["wandb_project", "use_mlflow"]),
        ("hub_model_id: me/mine\npush_to_hub: true", ["hub_model_id", "push_to_hub"]),
        ("push_dataset_to_hub: me/mine\nhf_use_auth_token: true",
         ["push_dataset_to_hub", "hf_use_auth_token"]),
        ("revision_of_model: 8bdb", ["revision_of_model"]),
        ("datasets: [{path: input:rows, revision: main}]", ["datasets[0].revision"]),
        ("fsdp_config: {fsdp_sharding_strategy: FULL_SHARD, limit_all_gathers: false}",
         ["fsdp_config.fsdp_sharding_strategy", "fsdp_config.limit_all_gathers"]),
        ("plugins: [axolotl.integrations.liger.LigerPlugin]\nliger_rope: true", ["liger_rope"]),
        ("plugins: [swanlab.SwanLabPlugin]\nswanlab_project: x", ["swanlab_project"]),
    ],
)  # fmt: skip
def test_what_does_not_matter_to_the_weights_is_dropped_and_told(
    text: str, keys: list[str]
) -> None:
    effective = accepted(text)
    overrides = {each.key: each for each in effective.overrides}
    for key in keys:
        assert overrides[key].used is None
        assert overrides[key].configured is not None
        assert key.rpartition(".")[2].encode() not in effective.config


def test_plugins_that_run_come_after_the_runners_own_and_are_named_in_full() -> None:
    text = "plugins: [grokfast.GrokfastPlugin, axolotl.integrations.liger.LigerPlugin]"
    effective = accepted(f"{text}\ngrokfast_alpha: 0.9")
    used = json.loads(effective.config)
    grokfast = "axolotl.integrations.grokfast.GrokfastPlugin"
    assert used["plugins"] == [config_rules.PLUGIN, grokfast]
    assert used["grokfast_alpha"] == 0.9
    override = next(each for each in effective.overrides if each.key == "plugins")
    assert "without axolotl.integrations.liger.LigerPlugin" in override.why


def test_a_plugin_of_kernels_runs_where_the_machine_has_them() -> None:
    text = "plugins: [liger.LigerPlugin, liger.LigerPlugin, swanlab.SwanLabPlugin]\n"
    text += "liger_rope: true\nliger_kernel_impl: cutile\nswanlab_project: x\n"
    effective = resolve((BASE + text).encode(), INPUTS, kernels=True)
    used = json.loads(effective.config)
    assert used["plugins"] == [config_rules.PLUGIN, plugins.LIGER]
    assert used["liger_rope"] is True
    overrides = {each.key: each for each in effective.overrides}
    assert (
        "packages that the training environment does not have" in overrides["liger_kernel_impl"].why
    )
    assert "without" in overrides["plugins"].why
    assert "Liger" not in overrides["plugins"].why
    assert "liger_rope" not in overrides
    assert resolve((BASE + text).encode(), INPUTS).digest != effective.digest
    with pytest.raises(ConfigRefused, match="changes the loss"):
        resolve(f"{BASE}{text}liger_use_token_scaling: true".encode(), INPUTS, kernels=True)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("plugins: [axolotl.integrations.kernels.KernelsPlugin]\nuse_scattermoe: true",
         "plugins[0]", "loads some kernels from a hub"),
        ("plugins: [liger.LigerPlugn]", "plugins[0]", "not one of Axolotl's own"),
        ("plugins: [spectrum.SpectrumPlugin]", "spectrum_model_name", "no measurements"),
        ("plugins: [liger.LigerPlugin]\nliger_use_token_scaling: true",
         "liger_use_token_scaling", "changes the loss"),
        ("liger_rope: true", "liger_rope", "which `plugins` does not name"),
        ("rl: dpo\ndatasets: [{path: input:rows, type: chatml.intel, roles: {user: [u]}}]",
         "datasets[0].roles", "with `rl: dpo` Axolotl does not read it"),
        ("datasets: [{path: input:rows, type: stepwise_supervised, step_separator: '\\n'}]",
         "datasets[0].step_separator", "does not read it"),
        ("rl: dppo", "rl", "'dppo' is not one of Axolotl's words"),
        ("adapter: loraa", "adapter", "'loraa' is not one of Axolotl's words"),
        ("optimizer: adamm", "optimizer", "'adamm' is not one of Axolotl's words"),
        ("lr_scheduler: cosin", "lr_scheduler", "'cosin' is not one of Axolotl's words"),
        ("warmup_steps: 0.1", "warmup_steps", "0.1 is not a whole number"),
    ],
)  # fmt: skip
def test_a_refusal_comes_first_for_the_right_reason(text: str, key: str, words: str) -> None:
    error = refusal(text)
    assert error.key == key
    assert words in error.message


MAPPED = "message_property_mappings: {role: role, content: content}"


@pytest.mark.parametrize(
    ("entry", "dropped"),
    [
        (f"type: chat_template.default, {MAPPED}, roles: {{user: [user], system: [system]}}",
         ["message_property_mappings", "roles"]),
        (f"type: chat_template, {MAPPED}", ["message_property_mappings"]),
        ("type: chat_template.argilla_chat, roles: {}", ["roles"]),
    ],
)  # fmt: skip
def test_a_key_that_axolotl_loses_is_recorded_if_it_says_what_axolotl_does_by_itself(
    entry: str, dropped: list[str]
) -> None:
    effective = accepted(f"rl: dpo\ndatasets: [{{path: input:rows, {entry}}}]")
    recorded = [each for each in effective.overrides if each.why == config_rules.BY_ITSELF]
    assert [each.key for each in recorded] == [f"datasets[0].{key}" for key in dropped]
    rows = json.loads(effective.config)["datasets"][0]
    assert rows.keys() == {"path", "split", "type"}


def test_what_axolotl_does_by_itself_for_steps_and_texts_is_recorded() -> None:
    effective = accepted(
        "process_reward_model: true\ndatasets: [{path: input:rows, type: stepwise_supervised,\n"
        'step_separator: "\\n", max_completion_length: null, train_on_last_step_only: false}]'
    )
    assert [each.key for each in effective.overrides if each.why == config_rules.BY_ITSELF] == [
        "datasets[0].step_separator", "datasets[0].train_on_last_step_only",
    ]  # fmt: skip
    for kind in ("", "type: completion, ", "text_column: text, type: pretrain, "):
        texts = settings(f"pretraining_dataset: [{{path: input:rows, {kind}field: text}}]")
        assert "field" not in str(texts["pretraining_dataset"])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("rl: dpo\ndatasets: [{path: input:rows, type: chat_template, roles: {user: [human]}}]",
         "datasets[0].roles"),
        ("rl: dpo\ndatasets: [{path: input:rows, type: chat_template, roles: {critic: [user]}}]",
         "datasets[0].roles"),
        ("rl: dpo\ndatasets: [{path: input:rows, type: chat_template, roles: user}]",
         "datasets[0].roles"),
        ("rl: dpo\ndatasets: [{path: input:rows, type: chatml.intel, roles: {user: [user]}}]",
         "datasets[0].roles"),
        ("rl: kto\ndatasets: [{path: input:rows, type: chat_template, roles: {user: [user]}}]",
         "datasets[0].roles"),
        ("datasets: [{path: input:rows, type: stepwise_supervised, train_on_last_step_only: 0}]",
         "datasets[0].train_on_last_step_only"),
        ("pretraining_dataset: [{path: input:rows, text_column: body, field: text}]",
         "pretraining_dataset[0].field"),
    ],
)  # fmt: skip
def test_a_key_that_axolotl_loses_is_refused_if_it_says_anything_else(text: str, key: str) -> None:
    assert refusal(text).key == key


def test_a_key_of_rows_that_axolotl_loses_passes_if_it_says_nothing() -> None:
    effective = accepted("rl: dpo\ndatasets: [{path: input:rows, type: chatml, roles: null}]")
    assert "roles" not in json.loads(effective.config)["datasets"][0]
    assert not any("roles" in each.key for each in effective.overrides)


def test_the_plugin_of_kernels_is_dropped_where_none_is_asked_for() -> None:
    text = "plugins: [kernels.KernelsPlugin]\nuse_scattermoe: false\n"
    effective = accepted(text)
    used = json.loads(effective.config)
    assert used["plugins"] == [config_rules.PLUGIN]
    override = next(each for each in effective.overrides if each.key == "plugins")
    assert "asks for none of its kernels" in override.why
    assert refusal(text + "expert_backend: scattermoe\n").key == "plugins[0]"


def test_spectrum_takes_the_models_whose_measurements_it_holds() -> None:
    used = settings(
        "plugins: [axolotl.integrations.spectrum.SpectrumPlugin]\n"
        "spectrum_model_name: meta-llama/Llama-3.2-1B\nspectrum_top_fraction: 0.5"
    )
    assert used["spectrum_model_name"] == "meta-llama/Llama-3.2-1B"


def test_every_plugin_of_the_locked_axolotl_is_in_one_table() -> None:
    tables = [plugins.RUN, frozenset(plugins.DROPPED), frozenset(plugins.REFUSED)]
    assert axolotl_keys().plugins.keys() <= frozenset().union(*tables)
    assert sum(len(table) for table in tables) == len(frozenset().union(*tables))
    assert axolotl_keys().plugins.keys() >= plugins.RUN


def test_unknown_keys_that_say_nothing_and_prefixed_keys_of_fsdp_are_taken() -> None:
    used = settings(
        "gptq_groupsize:\nfsdp_config: {fsdp_version: 2, fsdp_offload_params: true}\n"
        "datasets: [{path: input:rows, type: 'alpaca:phi'}]"
    )
    assert "gptq_groupsize" not in used
    assert used["fsdp_config"] == {"fsdp_version": 2, "fsdp_offload_params": True}


def test_more_records_than_a_report_holds_are_refused() -> None:
    rows = ", ".join(["{path: input:rows, revision: a}"] * 201)
    assert "more than 200" in refusal(f"datasets: [{rows}]").message


@pytest.mark.parametrize("rl", ["dpo", "ipo", "simpo", "kto", "orpo"])
def test_files_are_chosen_by_the_runner_whatever_axolotl_reads_with_that_rl(rl: str) -> None:
    rows = "{path: input:alpaca, data_files: [input:alpaca/train.jsonl], ds_type: json}"
    assert accepted(f"rl: {rl}\ndatasets: [{rows}]").selections


@pytest.mark.parametrize("text", ["", "[1]", "just text", "{}", "seed: 1"])
def test_a_config_without_a_base_model_is_refused(text: str) -> None:
    with pytest.raises(ConfigRefused):
        resolve(text.encode(), INPUTS)


def test_a_broken_document_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigRefused, match="line 2"):
        resolve(b"a: 1\nb: [", INPUTS)


@pytest.mark.parametrize("rule", sorted({*config_rules.REFUSED, *config_rules.REFERENCES}))
def test_the_tables_name_keys_that_axolotl_has(rule: str) -> None:
    keys = axolotl_keys()
    added = (model for model in keys.plugins.values() if model is not None)
    models = [keys.models[name] for name in (keys.root, *added)]
    for part in rule.split("."):
        below = {name for model in models for name in model.get(part, ())}
        assert any(part in model for model in models), rule
        models = [keys.models[name] for name in below]


def test_the_committed_keys_are_of_the_locked_axolotl() -> None:
    assert axolotl_keys().root == "AxolotlInputConfig"
    assert "alpaca" in axolotl_keys().dataset_types
    assert not any(
        "." in each and each.startswith("axolotl") for each in axolotl_keys().dataset_types
    )


def test_axolotl_reads_from_the_effective_config_what_was_meant() -> None:
    effective = accepted("adam_epsilon: 0.00000001\nmodel_kwargs: {scale: 1.0e+30}\n")
    assert yaml.safe_load(effective.config) == json.loads(effective.config)


def test_code_of_a_model_is_asked_for_by_config_and_lockfile() -> None:
    refused = refusal("trust_remote_code: true")
    assert "allow-remote-code = true" in str(refused.hint)
    inputs = INPUTS | {"model": replace(INPUTS["model"], code=True)}
    asked = resolve((BASE + "trust_remote_code: true\n").encode(), inputs)
    assert json.loads(asked.config)["trust_remote_code"] is True
    assert asked.code_of(inputs) == {"model"}
    assert resolve(BASE.encode(), inputs).code_of(inputs) == frozenset()
    for other in (
        "datasets: [{path: input:rows, trust_remote_code: true}]",
        "model_kwargs: {trust_remote_code: true}",
    ):
        with pytest.raises(ConfigRefused):
            resolve(f"{BASE}{other}\n".encode(), inputs)
