"""The shipped example's inputs: the same bytes everywhere, and recreated if missing."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path

from enclave_runner.axolotl.config import InputView, resolve
from rules.example import example, model
from rules.example import rows as example_rows

ROOT = Path(__file__).resolve().parents[4]


def test_what_is_made_has_the_committed_digests(tmp_path: Path) -> None:
    messages: list[str] = []
    assert example.make_example(tmp_path, messages.append)
    assert messages == ["making examples/alpaca", "making examples/tiny-llama"]
    assert example.is_made(tmp_path)
    assert not example.make_example(tmp_path, messages.append)
    assert len(messages) == 2
    for folder, files in example.EXPECTED.items():
        digests = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / folder).iterdir()
        }
        assert digests == files
    assert sorted(path.name for path in (tmp_path / "examples").iterdir()) == [
        "alpaca",
        "tiny-llama",
    ]


def test_what_somebody_edited_is_left_alone(tmp_path: Path) -> None:
    example.make_example(tmp_path)
    data = tmp_path / example.DATA / "train.jsonl"
    data.write_bytes(b"{}")
    shutil.rmtree(tmp_path / example.MODEL)
    assert not example.is_made(tmp_path)
    assert example.make_example(tmp_path)
    assert example.is_made(tmp_path)
    assert data.read_bytes() == b"{}"


def test_a_link_in_its_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / example.DATA).symlink_to(tmp_path / "absent")
    assert example.make_example(tmp_path)
    assert (tmp_path / example.DATA).is_symlink()


def test_the_rows_are_distinct_and_complete() -> None:
    rows = example_rows.rows()
    assert len(set(rows)) == example_rows.ROWS
    assert all(row.instruction and row.output for row in rows)
    assert len(example_rows.jsonl().splitlines()) == example_rows.ROWS


def test_the_model_is_a_small_llama() -> None:
    data = model.safetensors()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    count = sum((end - begin) // 4 for begin, end in (x["data_offsets"] for x in header.values()))
    assert count == 128_576
    assert len(data) == 8 + length + 4 * count
    assert list(header) == sorted(header)


def test_the_committed_config_is_taken() -> None:
    inputs = {
        folder: InputView(is_file=False, files=frozenset(files))
        for folder, files in (
            ("model", example.EXPECTED[example.MODEL]),
            ("alpaca", example.EXPECTED[example.DATA]),
        )
    }
    resolve((ROOT / "examples" / "tiny-alpaca.yml").read_bytes(), inputs)
