"""What `./doit reproduce` reports about two executions."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from aicert.formats.run_report import RunReport, Value, emit
from rules.runs import reproduce
from rules.runs.reproduce import Side


@dataclass(frozen=True)
class Output:
    files: dict[str, str]


@dataclass(frozen=True)
class Signed:
    outputs: dict[str, Output]
    report: bytes


@dataclass(frozen=True)
class FakeSide:
    """A Side whose certificate was already read."""

    signed: Signed
    model: Path
    pcr14: bytes = bytes(32)

    @property
    def statement(self) -> Signed:
        return self.signed

    @property
    def certificate(self) -> "FakeSide":
        return self

    @property
    def evidence(self) -> "FakeSide":
        return self

    @property
    def pcrs(self) -> dict[int, bytes]:
        return {14: self.pcr14}

    files = Side.files


def weights(path: Path, *values: float, name: str = "w") -> None:
    import array

    data = array.array("f", values).tobytes()
    tensor = {"dtype": "F32", "shape": [len(values)], "data_offsets": [0, len(data)]}
    header = json.dumps({name: tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def side(folder: Path, *values: float, name: str = "w", more: str = "", cpu: str = "a") -> Side:
    import hashlib

    folder.mkdir()
    weights(folder / "model.safetensors", *values, name=name)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    if more:
        files[more] = "0" * 64
    values_ = {"processor": Value("measured", cpu), "wallSeconds": Value("measured", len(cpu))}
    report = emit(RunReport(exit_code="0", values=values_))
    return cast(Side, FakeSide(Signed({"model": Output(files)}, report), folder))


def test_equal_outputs_are_reproduced_and_differing_reports_are_told(tmp_path: Path) -> None:
    comparison = reproduce.compare(side(tmp_path / "a", 1, 2), side(tmp_path / "b", 1, 2, cpu="bb"))
    assert comparison.equal
    assert comparison.lines == (
        f"PCR 14     sha256:{bytes(32).hex()}, the same",
        "  same     model.safetensors",
        "report     processor: a; again: bb",
        "REPRODUCED  1 files, byte for byte",
    )


def test_differing_weights_are_counted(tmp_path: Path) -> None:
    comparison = reproduce.compare(side(tmp_path / "a", 1, 2, 3), side(tmp_path / "b", 1, 2.5, 2))
    assert not comparison.equal
    line = next(line for line in comparison.lines if "DIFFERS" in line)
    assert line == (
        "  DIFFERS  model.safetensors: 1 of 1 tensors differ, in 2 elements, by at most 1; first w"
    )
    assert comparison.lines[-1] == "NOT REPRODUCED  1 of 1 files differ"


@pytest.mark.parametrize(
    ("again", "words"),
    [
        ({"name": "x"}, "tensors that only one file has: w, x"),
        ({"more": "b.json"}, "NEW      b.json"),
    ],
)
def test_other_tensors_and_other_files(tmp_path: Path, again: dict[str, str], words: str) -> None:
    one, two = side(tmp_path / "a", 1), side(tmp_path / "b", 1, **again)
    comparison = reproduce.compare(one, two)
    assert any(words in line for line in comparison.lines)
    assert not comparison.equal
    back = reproduce.compare(two, one)
    assert not back.equal


def test_a_tensor_larger_than_one_read_is_compared_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux reads at most 2 GiB at once; here the limit is 8 bytes."""
    monkeypatch.setattr(reproduce, "BLOCK", 8)
    nan = float("nan")
    one = side(tmp_path / "a", 1, nan, 3, 4, 5)
    two = side(tmp_path / "b", 1.5, nan, 3, 4, 9)
    line = next(line for line in reproduce.compare(one, two).lines if "DIFFERS" in line)
    assert line.endswith("1 of 1 tensors differ, in 2 elements, by at most 4; first w")


def test_a_file_that_is_cut_while_it_is_compared_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = side(tmp_path / "a", 1, 2), side(tmp_path / "b", 1, 3)
    read = os.pread

    def short(fd: int, most: int, at: int) -> bytes:
        return read(fd, most, at)[: -1 if at > 8 and most == 8 else None]

    monkeypatch.setattr(os, "pread", short)
    line = next(line for line in reproduce.compare(one, two).lines if "DIFFERS" in line)
    assert "a file was truncated while it was compared" in line
