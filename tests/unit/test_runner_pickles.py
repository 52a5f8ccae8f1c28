"""Pickles are told by content under any name, and by the names that loaders unpickle."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest

from enclave_runner.pickles import PickleRefused, refuse_pickle


def check(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    refuse_pickle(path, name)


def torch_archive(member: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, pickle.dumps({"a": 1}))
    return buffer.getvalue()


def tar_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["model.safetensors", "train.jsonl", "weights", "a/b.bin"])
def test_a_pickle_is_refused_under_any_name(tmp_path: Path, protocol: int, name: str) -> None:
    with pytest.raises(PickleRefused, match="protocol"):
        check(tmp_path, name, pickle.dumps({"a": 1}, protocol=protocol))


@pytest.mark.parametrize("name", ["model.safetensors", "x.zip", "x"])
def test_a_torch_archive_is_refused_under_any_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PickleRefused, match=r"data\.pkl"):
        check(tmp_path, name, torch_archive("archive/data.pkl"))


def test_an_archive_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PickleRefused, match="cannot be read"):
        check(tmp_path, "x.zip", torch_archive("data.pkl")[:-30])


def test_an_old_torch_tar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PickleRefused, match="tar"):
        check(tmp_path, "weights", tar_archive())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "a.PTH", "a.ckpt", "dir/a.pkl"])
def test_a_protocol_0_pickle_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PickleRefused, match="name ends"):
        check(tmp_path, name, pickle.dumps([1], protocol=0))


@pytest.mark.parametrize("data", [b"", b"text", pickle.dumps([1], protocol=0), b"\0" * 8 + b"["])
def test_what_only_claims_to_be_safetensors_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(PickleRefused, match="something else"):
        check(tmp_path, "model.safetensors", data)


def test_the_hint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PickleRefused) as caught:
        check(tmp_path, "a.bin", b"x")
    assert caught.value.hint is not None
    assert "allow-pickle" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.safetensors", SAFETENSORS),
        ("train.jsonl", b'{"a": 1}\n'),
        ("tokenizer.model", b"\x0a\x0e\x0a\x05<unk>"),
        ("data.parquet", b"PAR1"),
        ("images.zip", torch_archive("picture.png")),
        ("array.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False}"),
        ("empty.txt", b""),
    ],
)
def test_what_holds_no_pickle_passes(tmp_path: Path, name: str, data: bytes) -> None:
    check(tmp_path, name, data)


def test_a_numpy_array_of_objects_is_refused(tmp_path: Path) -> None:
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False}"
    with pytest.raises(PickleRefused, match="objects"):
        check(tmp_path, "array.npy", header)
