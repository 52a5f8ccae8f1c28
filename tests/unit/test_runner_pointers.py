"""No file of an input may send a loader to a file that is not locked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aicert.errors import LockError
from enclave_runner.pickles import PickleRefused, refuse_pickle
from enclave_runner.pointers import refuse_pointer


def check(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / "file"
    path.write_text(content, encoding="utf-8")
    refuse_pointer(path, name)


def card(value: str) -> str:
    return (
        f"---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files: {value}\n---\nText.\n"
    )


def index(shard: str) -> str:
    return json.dumps({"metadata": {}, "weight_map": {"a": "model.safetensors", "b": shard}})


ELSEWHERE = (
    "/usr/share/dict/words",
    "../other/train.jsonl",
    "x/../../other",
    "..",
    "~/x",
    "file:/usr/x",
    "file:///usr/x",
    "https://example.org/x",
    "zip://x::/usr/y.zip",
    "C:\\x",
    " /usr/x",
    "/aicert/inputs/../../usr/x",
    "/aicert/inputs",
    "/aicert/scratch/home/x",
    "/aicert/inputs/a::file:/usr/x",
)
HERE = ("train.jsonl", "data/*.parquet", "a..b/c", "x-00001-of-2.safetensors", "/aicert/inputs/m/x")


@pytest.mark.parametrize("value", ELSEWHERE)
def test_a_name_elsewhere_is_refused_wherever_a_loader_takes_names_from(
    tmp_path: Path, value: str
) -> None:
    quoted = json.dumps(value)
    for name, content in files(quoted):
        with pytest.raises(LockError, match="not locked"):
            check(tmp_path, name, content)


@pytest.mark.parametrize("value", HERE)
def test_a_name_of_a_locked_file_is_not(tmp_path: Path, value: str) -> None:
    for name, content in files(json.dumps(value)):
        check(tmp_path, name, content)


def files(quoted: str) -> list[tuple[str, str]]:
    return [
        ("d/README.md", card(quoted)),
        ("d/README.md", card(f"[{{split: train, path: [x, {quoted}]}}]").replace("\n", "\r\n")),
        ("d/README.md", f'\n\n---\n"conf\\x69gs": [{{"data_d\\x69r": {quoted}}}]\n---'),
        ("d/.huggingface.yaml", f"configs: [{{config_name: x, data_files: {quoted}}}]"),
        ("d/state.json", f'{{"_data_files": [{{"filename": {quoted}}}]}}'),
        ("d/dataset_dict.json", f'{{"splits": ["train", {quoted}]}}'),
        ("m/model.safetensors.index.json", f'{{"weight_map": {{"a": {quoted}}}}}'),
        ("m/model.safetensors.index.fp16.json", f'{{"weight_map": {{"a": {quoted}}}}}'),
        ("m/tokenizer_config.json", f'{{"vocab_file": {quoted}}}'),
        ("m/config.json", f'{{"text_config": {{"transformers_weights": {quoted}}}}}'),
        ("m/config.json", f'{{"configuration_files": ["config.4.0.json", {quoted}]}}'),
        ("m/config.4.0.json", f'{{"x_file": {quoted}}}'),
        ("m/adapter_config.json", f'{{"base_model_name_or_path": {quoted}}}'),
    ]


def test_names_that_no_loader_opens_are_nobody_s_business(tmp_path: Path) -> None:
    check(tmp_path, "m/config.json", '{"_name_or_path": "/home/bob/model"}')
    check(tmp_path, "d/README.md", "---\nhomepage: https://example.org\n---\n/usr/share")
    check(tmp_path, "d/README.md", "data_files: /usr/share\n")
    check(tmp_path, "d/rows.json", '{"_data_files": ["/usr/share"]}')
    check(tmp_path, "config", '{"x_file": "/usr/share"}')


@pytest.mark.parametrize("content", ["", "[", "[]", "3", "\ufeff{}", "[" * 100_000])
@pytest.mark.parametrize("name", ["a/x.index.json", "a/state.json", "a/config.json"])
def test_what_no_loader_reads_names_nothing(tmp_path: Path, name: str, content: str) -> None:
    check(tmp_path, name, content)


@pytest.mark.parametrize("header", ["a: [", "- 1", "a: !!python/name:os.system x", "a: 2001-99-99"])
def test_headers_that_are_none_name_nothing(tmp_path: Path, header: str) -> None:
    check(tmp_path, "d/README.md", f"---\n{header}\n---\n")


def test_a_header_that_contains_itself_ends(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)
    ]
    check(tmp_path, "d/.huggingface.yaml", "\n".join([*lines, "data_files: &me [*a29, *me]"]))


def test_names_are_not_looked_for_in_what_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="larger than"):
        check(tmp_path, "d/.huggingface.yaml", "#" * (1 << 20) + "\n")
    with pytest.raises(LockError, match="header of more than"):
        check(tmp_path, "d/README.md", f"---\n{'#' * (1 << 20)}x\n---\n")


@pytest.mark.parametrize("name", ["pytorch_model.bin.index.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("shard", ["weights.dat", "model.bin", "x.SAFETENSORS"])
def test_a_shard_that_is_no_safetensors_is_a_pickle(tmp_path: Path, name: str, shard: str) -> None:
    path = tmp_path / "file"
    path.write_text(index(shard))
    with pytest.raises(PickleRefused, match="with the shard"):
        refuse_pickle(path, f"m/{name}")
    path.write_text(index("model-2.safetensors"))
    refuse_pickle(path, f"m/{name}")
