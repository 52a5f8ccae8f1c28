"""The config of a run of lm-eval is closed, and names exactly the run's inputs."""

import json
from typing import Any

import pytest

from aicert.errors import ConfigError
from enclave_runner.axolotl.config import InputView
from enclave_runner.lm_eval import image_tasks, settings
from tests.unit.enclave_runner.lm_eval.test_definition import MC, TEXT

INPUTS = {
    "config": InputView(is_file=True),
    "model": InputView(is_file=False, files=frozenset(("config.json", "model.safetensors"))),
    "adapter": InputView(is_file=False, files=frozenset(("adapter_config.json",))),
    "rows": InputView(is_file=True),
    "shots": InputView(is_file=False, files=frozenset(("a.jsonl", "b.csv"))),
    "local-mc": InputView(is_file=True),
    "tasks": InputView(is_file=False, files=frozenset(("one.yaml", "two.yaml"))),
}
PLAIN: dict[str, Any] = {"base_model": "input:model", "tasks": ["input:local-mc"]}
ROWS = ("model", "rows", "local-mc")


def asked(config: object, *inputs: str, **tasks: Any) -> settings.EvaluationPlan:
    """Read a config. `tasks`: other tasks than MC, by the name of their file."""
    views = {name: INPUTS[name] for name in ("config", *inputs)}

    def file(name: str, inside: str) -> bytes:
        return json.dumps(tasks.get(inside.partition(".")[0], MC)).encode()

    return settings.with_tasks(settings.read(json.dumps(config).encode(), views), views, file)


def test_a_model_and_a_task_are_all_that_it_needs() -> None:
    read = asked(PLAIN, *ROWS)
    own = read.settings
    assert (own.base.name, own.adapter, own.limit, own.seed, own.batch_size, own.chat_template) == (
        "model", None, None, 1234, 1, False,
    )  # fmt: skip
    assert [each.place for each in read.selections.values()] == ["/aicert/records/rows/0"]
    effective = json.loads(read.config)
    assert effective["base_model"] == "/aicert/inputs/model"
    assert effective["tasks"][0]["rows"] == {"place": "/aicert/records/rows/0", "split": "test"}


def test_everything_that_decides_the_results_is_in_the_effective_config() -> None:
    usual = PLAIN | {"lora_model_dir": "input:adapter", "num_fewshot": 1}
    changes: tuple[dict[str, Any], ...] = (
        {}, {"num_fewshot": 2}, {"limit": 3}, {"seed": 3}, {"batch_size": 3},
        {"apply_chat_template": True},
    )  # fmt: skip
    with_shots = MC | {"fewshot_split": "train"}
    inputs = ("model", "adapter", "rows", "local-mc", "shots")
    digests = {asked(usual | each, *inputs, **{"": with_shots}).digest for each in changes}
    assert len(digests) == 6


def test_tasks_that_read_the_same_rows_share_them() -> None:
    config = PLAIN | {"tasks": ["input:tasks/one.yaml", "input:tasks/two.yaml"]}
    read = asked(config, "model", "rows", "tasks", two=TEXT | {"task": "other"})
    assert (len(read.tasks), len(read.selections)) == (2, 1)


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        ([1], ROWS, "not a mapping"),
        (PLAIN | {"model_args": "x"}, ROWS, "'model_args': a run of lm-eval has no such key"),
        (PLAIN | {"base_model": "org/model"}, ROWS, "must be an `input:` reference"),
        (PLAIN | {"base_model": "input:rows"}, ROWS, "is a file, but a model is a folder"),
        (PLAIN | {"lora_model_dir": "input:adapter"}, ROWS, "declares no input 'adapter'"),
        (PLAIN | {"tasks": None}, ROWS, "tasks: expected a list of 1 to 32"),
        (PLAIN | {"tasks": ["mmlu"]}, ROWS, r"tasks\[0\]: must be an `input:` reference"),
        (PLAIN | {"tasks": ["input:config"]}, ROWS, "declares no input 'config'"),
        (PLAIN | {"tasks": ["input:local-mc/a"]}, ROWS, "is a file, and has no such task"),
        (PLAIN | {"tasks": ["input:model/a"]}, ROWS, "is a folder, and has no such task"),
        (PLAIN | {"tasks": ["input:model"]}, ROWS, "is a folder, and has no such task"),
        (PLAIN | {"tasks": ["input:local-mc"] * 2}, ROWS, "the same task is named twice"),
        (PLAIN | {"limit": 0}, ROWS, "limit: expected a number from 1"),
        (PLAIN | {"limit": 0.5}, ROWS, "limit: expected a number from 1"),
        (PLAIN | {"seed": -1}, ROWS, "seed: expected a number from 0"),
        (PLAIN | {"batch_size": "auto"}, ROWS, "batch_size: expected a number from 1"),
        (PLAIN | {"apply_chat_template": "chatml"}, ROWS, "expected true or false"),
        (PLAIN, ("model", "local-mc"), "the run declares no input 'rows'"),
        (PLAIN, (*ROWS, "adapter"), "other inputs: adapter"),
    ],
)
def test_what_a_run_cannot_ask_is_refused(
    config: object, inputs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        asked(config, *inputs)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"test": "input:rows/a"}, "'rows' is a file, and has no 'a'"),
        ({"test": "input:shots"}, "'shots' is a folder, and has no ''"),
        ({"test": "input:shots/c.jsonl"}, "has no 'c.jsonl'"),
        ({"test": "input:shots/b.csv"}, "'b.csv' is not json, as `dataset_path` says"),
        ({"test": "input:config"}, "declares no input 'config'"),
    ],
)
def test_rows_that_are_not_there_are_refused(task: dict[str, str], message: str) -> None:
    named = MC | {"dataset_kwargs": {"data_files": task}}
    with pytest.raises(ConfigError, match=message):
        asked(PLAIN, "model", "local-mc", "rows", "shots", **{"": named})


def test_a_split_has_the_same_rows_for_every_task() -> None:
    config = PLAIN | {"tasks": ["input:tasks/one.yaml", "input:tasks/two.yaml"]}
    files = {"data_files": {"test": "input:shots/a.jsonl"}}
    csv = {"data_files": {"test": "input:shots/b.csv"}}
    one = MC | {"dataset_kwargs": files}
    two = MC | {"dataset_kwargs": csv, "dataset_path": "csv", "task": "two"}
    with pytest.raises(ConfigError, match="two tasks read other files of shots as split test"):
        asked(config, "model", "shots", "tasks", one=one, two=two)
    with pytest.raises(ConfigError, match="another task has this name, local_mc"):
        asked(config, "model", "rows", "tasks")


def test_what_is_not_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match="config: "):
        settings.read(b"a: [", {})


def of_image(config: object, *inputs: str) -> settings.EvaluationPlan:
    """Read a config that names tasks of the image; other tasks are MC."""
    views = {name: INPUTS.get(name, INPUTS["rows"]) for name in ("config", *inputs)}

    def file(name: str, inside: str) -> bytes:
        own = image_tasks.task_file(inside)
        return own.read_bytes() if name == settings.OF_IMAGE else json.dumps(MC).encode()

    return settings.with_tasks(settings.read(json.dumps(config).encode(), views), views, file)


def test_tasks_of_the_image_need_no_input() -> None:
    names = ["aicert-weekdays", "aicert-addition"]
    read = of_image(PLAIN | {"tasks": names, "num_fewshot": 3}, "model")
    assert [(task.name, task.shots) for task in read.tasks] == [(name, 0) for name in names]
    assert [each.place for each in read.selections.values()] == [
        f"/aicert/records/{name}/0" for name in names
    ]
    both = of_image(PLAIN | {"tasks": [*PLAIN["tasks"], *names]}, *ROWS)
    assert len(both.tasks) == 3


@pytest.mark.parametrize(
    ("tasks", "inputs", "message"),
    [
        (["aicert-subtraction"], ("model",), r"tasks\[0\]: must be an `input:` reference"),
        (["aicert-copy"] * 2, ("model",), "the same task is named twice"),
        (["aicert-copy"], ("model", "aicert-copy"), "has the name of a task of the image"),
        (["aicert-copy"], ROWS, "other inputs: local-mc, rows"),
    ],
)
def test_tasks_that_the_image_lacks_or_inputs_hide_are_refused(
    tasks: list[str], inputs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        of_image(PLAIN | {"tasks": tasks}, *inputs)


def test_a_task_of_an_input_reads_no_rows_of_the_image() -> None:
    task = MC | {"dataset_kwargs": {"data_files": {"test": "input:aicert-copy"}}}
    config = PLAIN | {"tasks": ["aicert-copy", "input:local-mc"]}
    views = {name: INPUTS[name] for name in ("config", "model", "local-mc")}

    def file(name: str, inside: str) -> bytes:
        own = image_tasks.task_file(inside)
        return own.read_bytes() if name == settings.OF_IMAGE else json.dumps(task).encode()

    with pytest.raises(ConfigError, match="the run declares no input 'aicert-copy'"):
        settings.with_tasks(settings.read(json.dumps(config).encode(), views), views, file)
