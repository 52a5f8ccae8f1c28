"""Loaders find the weights of a merged model: all of them, where its index says."""

import json
from pathlib import Path

import pytest

from aicert.errors import LockError
from aicert.files.tree import read_tree
from enclave_runner.merge import shards
from enclave_runner.merge.derivation import DerivedModel
from tests.unit.rules.project.one_run import matrices

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
MAP = {"first": ONE, "second": TWO}


def check(folder: Path) -> None:
    shards.check(DerivedModel(folder=folder, files=read_tree(folder), seed=b""))


def write(folder: Path, index: object = MAP) -> Path:
    """Write two shards, and an index with this map."""
    (folder / ONE).write_bytes(matrices(first=(1, 2)))
    (folder / TWO).write_bytes(matrices(second=(2, 2)))
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 6}, "weight_map": index}))
    return folder


def test_shards_have_an_index_and_one_file_has_none(tmp_path: Path) -> None:
    check(write(tmp_path))
    for name in (ONE, TWO, INDEX):
        (tmp_path / name).unlink()
    (tmp_path / shards.WHOLE).write_bytes(matrices(first=(1, 2)))
    check(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(
        LockError, match=r"not in model\.safetensors alone: it has 'model\.safetensors\.i"
    ):
        check(tmp_path)
    (tmp_path / INDEX).unlink()
    (tmp_path / shards.WHOLE).rename(tmp_path / "other.safetensors")
    with pytest.raises(
        LockError, match=r"not in model\.safetensors alone: it has 'other\.safetensors'"
    ):
        check(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        None,
        {},
        {"first": ONE},
        {"first": ONE, "second": ONE},
        MAP | {"third": TWO},
        MAP | {"second": f"../{TWO}"},
    ],
)
def test_an_index_names_each_tensor_with_its_file(tmp_path: Path, index: object) -> None:
    with pytest.raises(LockError, match=r"index\.json does not name each tensor with its file"):
        check(write(tmp_path, index))


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, "é", '"' + "x" * (1 << 25) + '"'])
def test_what_is_no_index_is_refused(tmp_path: Path, text: str) -> None:
    (write(tmp_path) / INDEX).write_text(text, encoding="latin-1")
    with pytest.raises(LockError, match="does not name each tensor"):
        check(tmp_path)


def test_shards_without_an_index_or_with_two_are_refused(tmp_path: Path) -> None:
    for name, words in (("b.safetensors.INDEX.json", "{}"), (INDEX, None)):
        if words is None:
            (tmp_path / name).unlink()
        else:
            (write(tmp_path) / name).write_text(words)
        with pytest.raises(LockError, match="the weights in 2 files have no index, or several"):
            check(tmp_path)
