"""A task file is data: a closed list of keys, and nothing that the harness would run."""

import json
from typing import Any

import pytest

from aicert.errors import ConfigError
from enclave_runner.lm_eval import definition
from enclave_runner.lm_eval.definition import Source, Task

MC: dict[str, Any] = {
    "task": "local_mc",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "input:rows", "train": "input:shots/a.jsonl"}},
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_choice": ["yes", "no"],
    "doc_to_target": "answer",
}
TEXT = {key: value for key, value in MC.items() if key != "doc_to_choice"} | {
    "output_type": "generate_until"
}
REGEX = {"function": "regex", "regex_pattern": "([0-9]+)", "group_select": -1, "fallback": "[no]"}
FIRST = {"function": "take_first"}
NUMBERS = {"name": "numbers", "filter": [REGEX, FIRST]}


def read(task: object, shots: int | None = None) -> Task:
    return definition.read(json.dumps(task).encode(), "local-mc", shots)


def test_a_task_says_what_is_asked_and_where_its_rows_are() -> None:
    task = read(MC)
    assert (task.name, task.kind, task.shots, task.examples) == (
        "local_mc", "multiple_choice", 0, None,
    )  # fmt: skip
    assert task.evaluated == Source(input="rows", split="test", files=("",), form="json")
    assert task.measures == [("acc", "none"), ("acc_norm", "none")]
    assert task.definition["metric_list"] == [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm")
    ]
    assert task.definition["target_delimiter"] == " "


def test_names_and_places_decide_nothing_and_are_not_in_the_definition() -> None:
    moved = {"data_files": {"held": ["input:other/b.jsonl"], "train": "input:x"}}
    other = MC | {
        "task": "mmlu", "dataset_kwargs": moved, "test_split": "held", "metadata": {"version": 2},
    }  # fmt: skip
    assert read(other).definition == read(MC).definition


@pytest.mark.parametrize("key", ["fewshot_split", "training_split", "validation_split"])
def test_few_shot_examples_come_from_the_split_that_the_harness_prefers(key: str) -> None:
    task = read(MC | {key: "train", "num_fewshot": 3, "fewshot_config": {"sampler": "first_n"}})
    assert (task.shots, task.definition["fewshot_split"]) == (3, "fewshot")
    assert task.examples == Source(input="shots", split="train", files=("a.jsonl",), form="json")
    assert task.definition["fewshot_config"] == {"sampler": "first_n"}


def test_examples_may_be_other_rows_of_the_same_split() -> None:
    task = read(MC | {"fewshot_split": "test"}, 2)
    assert (task.shots, task.examples, task.definition["fewshot_split"]) == (2, None, "test")


def test_the_runs_number_of_examples_replaces_all_but_zero() -> None:
    shots = MC | {"fewshot_split": "train"}
    assert read(shots | {"num_fewshot": 1}, 5).shots == 5
    assert read(shots | {"num_fewshot": 0}, 5).shots == 0
    assert read(shots, 0).shots == 0


def test_without_a_test_split_the_validation_split_is_evaluated() -> None:
    task = read({**MC, "test_split": None, "validation_split": "train"})
    assert task.evaluated.split == "train"


def test_text_is_generated_greedily_and_filtered() -> None:
    asked = {"until": ["\n"], "max_gen_toks": 8, "do_sample": False, "temperature": 0.0}
    metric = {"metric": "exact_match", "ignore_case": True, "regexes_to_ignore": [",", r"\$"]}
    task = read(
        TEXT | {"generation_kwargs": asked, "filter_list": [NUMBERS], "metric_list": [metric]}
    )
    assert task.definition["generation_kwargs"] == asked
    assert task.measures == [("exact_match", "numbers")]
    usual = read(TEXT).definition["generation_kwargs"]
    assert usual == asked | {"until": ["\n\n"], "max_gen_toks": 256}
    one = read(TEXT | {"generation_kwargs": {"until": "."}}).definition["generation_kwargs"]
    assert one == usual | {"until": ["."]}


def test_one_file_without_a_split_is_the_split_train() -> None:
    task = read(MC | {"dataset_kwargs": {"data_files": "input:rows"}, "test_split": "train"})
    assert task.evaluated.split == "train"


CODE = "a task here runs no code, and reads only inputs"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"process_docs": "utils.docs"}, CODE),
        ({"process_results": "utils.results"}, CODE),
        ({"class": "Task"}, CODE),
        ({"custom_dataset": "utils.load"}, CODE),
        ({"include": "other.yaml"}, CODE),
        ({"unsafe_code": True}, CODE),
        ({"use_prompt": "promptsource:x"}, CODE),
        ({"dataset_name": "abstract_algebra"}, CODE),
        ({"doc_to_image": "image"}, CODE),
        ({"repeats": 2}, "'repeats': a task here has no such key"),
        ({"should_decontaminate": True}, "no such key"),
        ({"task": None}, "task: missing"),
        ({"task": "a b"}, "task: a name has letters"),
        ({"task": 5}, "task: a name has letters"),
        ({"dataset_path": "cais/mmlu"}, "dataset_path: 'cais/mmlu' is none of csv, json"),
        ({"dataset_path": 5}, "dataset_path: '5' is none of"),
        ({"output_type": "guess"}, "output_type: 'guess' is none of"),
        ({"dataset_kwargs": []}, "dataset_kwargs: missing|expected a mapping"),
        ({"dataset_kwargs": {"data_dir": "x"}}, "only `data_files` is read"),
        ({"dataset_kwargs": {"data_files": 5}}, "data_files.train: expected a list"),
        ({"dataset_kwargs": {"data_files": {"a/b": "input:rows"}}}, "no name of a split"),
        ({"dataset_kwargs": {"data_files": {"test": "/etc/passwd"}}}, "must be an `input:`"),
        ({"dataset_kwargs": {"data_files": {"test": []}}}, "1 to 32 entries"),
        ({"dataset_kwargs": {"data_files": {"test": [5]}}}, "must be an `input:`"),
        (
            {"dataset_kwargs": {"data_files": {"test": ["input:a/x", "input:b/x"]}}},
            "files of one input",
        ),
        ({"dataset_kwargs": {"data_files": {"test": "input:a/../b"}}}, "not a path in an input"),
        ({"dataset_kwargs": {"data_files": {"test": ["input:a/x"] * 2}}}, "named twice"),
        ({"test_split": "held"}, "'held' is no split"),
        ({"test_split": 5}, "'5' is no split"),
        ({"test_split": None}, "test_split: missing"),
        ({"num_fewshot": 1}, "fewshot_split: missing"),
        ({"num_fewshot": -1}, "num_fewshot: expected a number from 0"),
        ({"num_fewshot": True}, "num_fewshot: expected a number"),
        ({"doc_to_text": 5}, "doc_to_text: expected a text"),
        ({"doc_to_target": 1.5}, "doc_to_target: expected a text"),
        ({"doc_to_choice": [1]}, "doc_to_choice: expected a list of texts"),
        ({"doc_to_choice": {"a": "b"}}, "doc_to_choice: expected a text"),
        ({"doc_to_choice": None}, "multiple_choice needs it"),
        ({"output_type": "loglikelihood"}, "no other type has it"),
        ({"metric_list": []}, "metric_list: expected a list"),
        ({"metric_list": ["acc"]}, r"metric_list\[0\]: expected a mapping"),
        ({"metric_list": [{"metric": "f1"}]}, "'f1' twice, or none of multiple_choice's"),
        ({"metric_list": [{"metric": "acc"}] * 2}, "'acc' twice"),
        ({"metric_list": [{"metric": "acc", "aggregation": "max"}]}, "aggregation of acc is mean"),
        (
            {"metric_list": [{"metric": "acc", "higher_is_better": False}]},
            "higher_is_better of acc is true",
        ),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "acc has no 'hf_evaluate'"),
        ({"filter_list": [NUMBERS]}, "multiple_choice generates no text to filter"),
        ({"fewshot_config": {"sampler": "mine"}}, "expected only `sampler"),
        ({"fewshot_config": {"sampler": "first_n", "samples": []}}, "expected only `sampler"),
        ({"metadata": {"version": 1, "pretrained": "x"}}, "only `version` is read"),
    ],
)
def test_what_a_task_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(MC | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generation_kwargs": {"do_sample": True}}, "text is generated greedily"),
        ({"generation_kwargs": {"temperature": 0.7}}, "text is generated greedily"),
        ({"generation_kwargs": {"num_beams": 4}}, "text is generated greedily"),
        ({"generation_kwargs": {"max_gen_toks": 0}}, "max_gen_toks: expected a number"),
        ({"generation_kwargs": {"until": [5]}}, "until: expected a list of texts"),
        ({"filter_list": [{"name": "a"}]}, "expected `name` and `filter`"),
        ({"filter_list": [NUMBERS, NUMBERS]}, "name: twice, or not a name"),
        ({"filter_list": [NUMBERS | {"name": "a,b"}]}, "name: twice, or not a name"),
        ({"filter_list": [NUMBERS | {"filter": [REGEX]}]}, "must end with"),
        ({"filter_list": [NUMBERS | {"filter": [{"function": "custom"}]}]}, "none of lowercase"),
        ({"filter_list": [NUMBERS | {"filter": [REGEX | {"more": 1}]}]}, "no 'more' of this type"),
        (
            {"filter_list": [NUMBERS | {"filter": [REGEX | {"group_select": "0"}]}]},
            "no 'group_select' of this type",
        ),
        (
            {"filter_list": [NUMBERS | {"filter": [REGEX | {"regex_pattern": "("}]}]},
            "not a regular expression",
        ),
        ({"metric_list": [{"metric": "exact_match", "regexes_to_ignore": ["("]}]}, "not a regular"),
        (
            {"metric_list": [{"metric": "exact_match", "regexes_to_ignore": [5]}]},
            "expected a list of texts",
        ),
    ],
)
def test_what_generated_text_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(TEXT | change)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"doc_to_text: !function utils.text", "line 1: "),
        (b"task: a\ntask: b", "twice"),
        (b"[1]", "not a mapping"),
        (b"1: a", "'1': a task here has no such key"),
    ],
)
def test_tags_and_what_is_no_mapping_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        definition.read(data, "local-mc", None)


def test_a_key_that_is_nearly_right_is_named() -> None:
    with pytest.raises(ConfigError) as refusal:
        read(MC | {"doc_to_choices": ["a"]})
    assert refusal.value.hint == "did you mean `doc_to_choice`?"
    with pytest.raises(ConfigError) as refusal:
        read(MC | {"zzz": ["a"]})
    assert refusal.value.hint == "docs/spec/lm-eval.md lists them"


def test_a_tag_gets_advice_that_does_not_make_a_prompt_of_it() -> None:
    with pytest.raises(ConfigError) as refusal:
        definition.read(b"doc_to_text: !function utils.text", "local-mc", None)
    assert refusal.value.message == "config: local-mc: line 1: a value of kind '!function'"
    assert refusal.value.hint == ("a task here is data: write a template, or the name of a column")
    with pytest.raises(ConfigError) as refusal:
        read(MC | {"process_docs": "utils.docs"})
    assert refusal.value.hint == "remove `process_docs`"
