"""Pickles are recognised by content under any name, and by the names that loaders unpickle."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from enclave_runner.inputs.pickles import PickleRefused, WeightsRefused, refuse_pickle


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


@pytest.mark.parametrize("name", ["x.zip", "pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("left", [4, 60, -1, -30])
def test_an_archive_that_cannot_be_read_is_refused(tmp_path: Path, name: str, left: int) -> None:
    with pytest.raises(WeightsRefused, match="an archive that cannot be read") as caught:
        check(tmp_path, name, torch_archive("data.pkl")[:left])
    # Allowing pickles would not repair the file.
    assert caught.value.hint == "fetch it again, it may be incomplete"


def two_faced(*, wide: bool) -> bytes:
    """Return an archive that two readers see differently.

    zipfile uses the directory before the end record, torch the one that it points to.
    """
    archive = torch_archive("archive/data.pkl")
    size, offset = struct.unpack("<II", archive[-10:-2])
    name = b"readme.txt"
    fields = (20, 0, 20, 0, *(0,) * 7, len(name), 0, size - 46 - len(name), 0, 0, 0, 0)
    other = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", *fields) + name
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, offset, 0)
    if wide:
        at = offset + 2 * size
        end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, offset)
        end = end64 + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1) + end
    return archive[:-22] + other.ljust(size) + end


@pytest.mark.parametrize("wide", [False, True])
def test_an_archive_with_two_faces_is_refused(tmp_path: Path, wide: bool) -> None:
    data = two_faced(wide=wide)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["readme.txt"]
    with pytest.raises(PickleRefused, match="differently"):
        check(tmp_path, "weights.dat", data)


def test_an_archive_with_a_comment_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "text")
        archive.comment = b"PK"
    with pytest.raises(PickleRefused, match="differently"):
        check(tmp_path, "rows.zip", buffer.getvalue())


def test_an_archive_of_text_passes(tmp_path: Path) -> None:
    check(tmp_path, "rows.zip", torch_archive("rows.jsonl"))


def test_an_old_torch_tar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PickleRefused, match="tar"):
        check(tmp_path, "weights", tar_archive())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "a.PTH", "a.ckpt", "dir/a.pkl"])
def test_a_protocol_0_pickle_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PickleRefused, match="name ends"):
        check(tmp_path, name, pickle.dumps([1], protocol=0))


@pytest.mark.parametrize("data", [b"", b"text", pickle.dumps([1], protocol=0), b"\0" * 8 + b"["])
def test_what_only_claims_to_be_safetensors_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(WeightsRefused, match="cannot be read as safetensors") as caught:
        check(tmp_path, "model.safetensors", data)
    assert "pickle" not in f"{caught.value.message}{caught.value.hint}"


def test_a_cut_download_is_told_as_such(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    whole = len(header).to_bytes(8, "little") + header + b"1234"
    check(tmp_path, "a.safetensors", whole)
    with pytest.raises(WeightsRefused, match=r"a\.safetensors cannot be read .* file's 2 bytes"):
        check(tmp_path, "a.safetensors", whole[:-2])


@pytest.mark.parametrize("name", ["a.safetensors", "pytorch_model.bin", "a.pt", "config.json"])
def test_an_lfs_pointer_is_told_as_such_under_any_name(tmp_path: Path, name: str) -> None:
    rest = b"oid sha256:" + b"0" * 64 + b"\nsize 9\n"
    for version in (b"https://git-lfs.github.com/spec/v1", b"https://hawser.github.com/spec/v1"):
        with pytest.raises(WeightsRefused, match=f"{re.escape(name)} is a git LFS") as caught:
            check(tmp_path, name, b"version " + version + b"\n" + rest)
        assert "pickle" not in f"{caught.value.message}{caught.value.hint}"


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


@pytest.mark.parametrize("name", ["pytorch_model.bin.index.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("shard", ["weights.dat", "model.bin", "x.SAFETENSORS"])
def test_a_shard_that_is_no_safetensors_is_a_pickle(tmp_path: Path, name: str, shard: str) -> None:
    def index(shard: str) -> bytes:
        return json.dumps({"weight_map": {"a": "model-1.safetensors", "b": shard}}).encode()

    with pytest.raises(PickleRefused, match="with the shard"):
        check(tmp_path, f"m/{name}", index(shard))
    check(tmp_path, f"m/{name}", index("model-2.safetensors"))
