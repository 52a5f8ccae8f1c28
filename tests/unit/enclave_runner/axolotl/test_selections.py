"""Which files of which input a config's data references select, and the config that results."""

from __future__ import annotations

import json

import pytest

from enclave_runner.axolotl.config import Effective, InputView, resolve
from enclave_runner.axolotl.config_rules import ConfigRefused
from enclave_runner.inputs.references import Selection, canonical_name

INPUTS = {
    "model": InputView(is_file=False, files=frozenset(("config.json", "model.safetensors"))),
    "alpaca": InputView(is_file=False, files=frozenset(("README.md", "train.jsonl", "test.jsonl"))),
    "mixed": InputView(is_file=False, files=frozenset(("more/a.parquet", "x/b.csv"))),
    "shards": InputView(
        is_file=False, files=frozenset(f"data/train_sft-0000{i}-of-00003.parquet" for i in range(3))
    ),
    "rows": InputView(is_file=True),
}
PACKED = "streaming: true\nsample_packing: true\n"


def resolved(text: str) -> Effective:
    return resolve(("base_model: input:model\n" + text).encode(), INPUTS)


def entries(text: str, key: str = "datasets") -> list[dict[str, object]]:
    listed = json.loads(resolved(text).config)[key]
    assert isinstance(listed, list)
    return listed


def refusal(text: str) -> ConfigRefused:
    with pytest.raises(ConfigRefused) as caught:
        resolved(text)
    return caught.value


def splits(text: str) -> list[dict[str, tuple[str, ...]]]:
    return [dict(each.splits) for each in resolved(text).selections]


def test_a_file_is_the_split_train_of_its_input() -> None:
    text = "datasets: [{path: 'input:mixed/more/a.parquet', type: alpaca}, {path: 'input:rows'}]"
    assert resolved(text).selections == (
        Selection(input="mixed", number=0, form=None, splits={"train": ("more/a.parquet",)}),
        Selection(input="rows", number=0, form=None, splits={"train": ("",)}),
    )
    assert entries(text) == [
        {"path": "/aicert/records/mixed/0", "split": "train", "type": "alpaca"},
        {"path": "/aicert/records/rows/0", "split": "train"},
    ]


def test_of_a_folder_the_names_of_files_tell_the_split() -> None:
    assert splits("datasets: [{path: input:alpaca}]\ntest_datasets: [{path: input:alpaca}]") == [
        {"train": ("train.jsonl",)},
        {"test": ("test.jsonl",)},
    ]
    assert splits("datasets: [{path: input:shards, split: train_sft}]") == [
        {"train_sft": tuple(f"data/train_sft-0000{i}-of-00003.parquet" for i in range(3))}
    ]


def test_a_folder_in_an_input_is_searched_alone() -> None:
    assert splits("datasets: [{path: input:mixed/more}]") == [{"train": ("more/a.parquet",)}]


def test_listed_files_are_the_split_train_in_the_order_listed() -> None:
    text = (
        "datasets: [{path: input:alpaca, data_files: "
        "['input:alpaca/train.jsonl', 'input:alpaca/test.jsonl']}]"
    )
    assert splits(text) == [{"train": ("train.jsonl", "test.jsonl")}]
    assert "data_files" not in entries(text)[0]


def test_a_pattern_names_the_files_that_match_it() -> None:
    text = "datasets: [{path: input:shards, data_files: ['input:shards/data/*-00001-of-*']}]"
    assert splits(text) == [{"train": ("data/train_sft-00001-of-00003.parquet",)}]
    error = refusal(text.replace("*-00001", "*-00007"))
    assert error.key == "datasets[0].path"
    assert "no file is called 'data/*-00007-of-*'" in error.message


def test_slices_stay_and_equal_selections_are_one() -> None:
    text = (
        "datasets: [{path: 'input:alpaca/train.jsonl', split: 'train[:90%]'}]\n"
        "test_datasets: [{path: 'input:alpaca/train.jsonl', split: 'train[90%:]'}]\n"
    )
    assert len(resolved(text).selections) == 1
    assert entries(text)[0]["split"] == "train[:90%]"
    assert entries(text, "test_datasets") == [
        {"path": "/aicert/records/alpaca/0", "split": "train[90%:]"}
    ]


@pytest.mark.parametrize("split", ["train+test", "test[:5] + train", "all"])
def test_several_splits_are_all_selected(split: str) -> None:
    assert splits(f"datasets: [{{path: input:alpaca, split: '{split}'}}]") == [
        {"train": ("train.jsonl",), "test": ("test.jsonl",)}
    ]


def test_preferences_are_read_from_train_as_axolotl_does() -> None:
    text = "rl: dpo\ntest_datasets: [{path: input:alpaca}]"
    assert splits(text) == [{"train": ("train.jsonl",)}]


@pytest.mark.parametrize(
    "text",
    [
        "pretraining_dataset: 'input:alpaca/train.jsonl'",
        "pretraining_dataset: [{path: 'input:alpaca/train.jsonl'}]",
        "pretraining_dataset: {path: 'input:alpaca/train.jsonl', skip: 2}",
        "pretraining_dataset: {path: 'input:alpaca/train.jsonl', text_column: a}",
        "pretraining_dataset: {path: 'input:alpaca/train.jsonl', type: completion.load}",
        "pretraining_dataset: {path: 'input:alpaca/train.jsonl', text_column: a, type: pretrain}",
    ],
)
def test_what_is_streamed_for_pretraining_is_selected(text: str) -> None:
    assert splits(text) == [{"train": ("train.jsonl",)}]
    value = json.loads(resolved(text).config)["pretraining_dataset"]
    entry = value[0] if isinstance(value, list) else value
    path = entry["path"] if isinstance(entry, dict) else entry
    assert path == "/aicert/records/alpaca/0"


def test_a_form_that_fits_becomes_that_of_canonical_rows() -> None:
    data_sets = entries("datasets: [{path: input:mixed/more/a.parquet, ds_type: parquet}]")
    assert data_sets[0]["ds_type"] == "json"
    assert resolved("datasets: [{path: input:rows, ds_type: csv}]").selections[0].form == "csv"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("datasets: [{type: alpaca}]", "datasets[0].path", "missing"),
        (
            "datasets: [{path: input:rows}]\npretraining_dataset: [{path: input:rows}]",
            "datasets",
            "not read",
        ),
        ("rl: dpo\npretraining_dataset: [{path: input:rows}]", "pretraining_dataset", "not read"),
        (
            "pretraining_dataset: [{path: input:rows}, {path: input:alpaca}]",
            "pretraining_dataset",
            "reads only the first",
        ),
        # The trainer would read another text than the one whose loss is measured.
        (
            "pretraining_dataset: [{path: input:rows, type: completion, text_column: a}]",
            "pretraining_dataset.text_column",
            "reads the column `text`",
        ),
        (
            "pretraining_dataset: {path: input:rows, type: alpaca}",
            "pretraining_dataset.type",
            "'alpaca' reads more than one column",
        ),
        (
            PACKED + "datasets: [{path: input:rows}, {path: input:alpaca}]",
            "datasets",
            "reads only the first",
        ),
        (
            "streaming: true\ndatasets: [{path: input:rows}]\ntest_datasets: [{path: input:rows}]",
            "test_datasets",
            "not read",
        ),
        ("datasets: [{path: input:alpaca, name: de}]", "datasets[0].name", "README"),
        ("datasets: [{path: input:alpaca, split: dev}]", "datasets[0].split", "no split 'dev'"),
        (
            "datasets: [{path: input:alpaca, split: 'train['}]",
            "datasets[0].split",
            "is not a split",
        ),
        ("datasets: [{path: input:shards}]", "datasets[0].split", "no split 'train'"),
        ("test_datasets: [{path: input:rows}]", "test_datasets[0].split", "no split 'test'"),
        (
            "streaming: true\ndatasets: [{path: input:rows, split: 'train[:9]'}]",
            "datasets[0].split",
            "streamed",
        ),
        (
            "datasets: [{path: input:rows, data_files: input:rows}]",
            "datasets[0].data_files",
            "ignore",
        ),
        (
            "datasets: [{path: input:alpaca, data_files: input:rows}]",
            "datasets[0].data_files",
            "'rows'",
        ),
        (
            "datasets: [{path: input:mixed/more, data_files: 'input:mixed/x/b.csv'}]",
            "datasets[0].data_files",
            "not inside",
        ),
        ("datasets: [{path: input:rows, ds_type: arrow}]", "datasets[0].ds_type", "Arrow"),
        (
            "datasets: [{path: 'input:alpaca/train.jsonl', ds_type: csv}]",
            "datasets[0].ds_type",
            "not csv",
        ),
        ("datasets: [{path: 'input:alpaca/README.md'}]", "datasets[0].path", "README.md"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_key(text: str, key: str, words: str) -> None:
    error = refusal(text)
    assert error.key == key
    assert words in error.message


@pytest.mark.parametrize(
    ("count", "length", "entries", "words"),
    [(4097, 1, 1, "4097 files"), (3000, 200, 1, "bytes of paths"), (1, 1, 65, "65 splits")],
)
def test_more_than_the_run_report_holds_is_refused(
    count: int, length: int, entries: int, words: str
) -> None:
    inputs = {"model": INPUTS["model"]}
    for number in range(entries):
        files = frozenset(f"{n:0{length}}.jsonl" for n in range(count))
        inputs[f"in{number}"] = InputView(is_file=False, files=files)
    listed = ", ".join(f"{{path: input:in{number}}}" for number in range(entries))
    with pytest.raises(ConfigRefused, match=words):
        resolve(f"base_model: input:model\ndatasets: [{listed}]".encode(), inputs)


def test_canonical_files_are_named_for_their_split() -> None:
    assert canonical_name("train", 0, 12) == "data/train-00000-of-00012.jsonl"
