"""Parts of the GPU script that can be tested without a GPU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rules.host import training_env
from tests.gpu.train_twice import differing, digests, gpu_facts

ROOT = Path(__file__).resolve().parents[2]


def test_the_gpu_is_named_with_driver_and_vbios() -> None:
    printed = "NVIDIA H100 80GB HBM3, 580.95.05, 96.00.89.00.01\nNVIDIA H100, 1, 2\n"
    assert gpu_facts(printed) == {
        "name": "NVIDIA H100 80GB HBM3",
        "driver_version": "580.95.05",
        "vbios_version": "96.00.89.00.01",
    }
    assert gpu_facts("") == {}


def test_what_differs_is_named_in_order(tmp_path: Path) -> None:
    assert differing({"b": "1", "a": "2"}, {"b": "1", "a": "2"}) == []
    assert differing({"b": "1", "a": "2"}, {"b": "0", "a": "1", "c": "3"}) == ["b", "a", "c"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x").write_bytes(b"")
    assert list(digests(tmp_path)) == ["sub/x"]


@pytest.mark.kinds
def test_without_a_gpu_the_same_steps_give_equal_bytes(tmp_path: Path) -> None:
    program = ROOT / "tests/gpu/train_twice.py"
    done = subprocess.run(
        [training_env.python(training_env.ensure(ROOT)), "-P", program, "--out", tmp_path],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["equal"]
    assert result["firstDiffering"] is None
    assert result["path"].startswith("no locked environment: torch ")
    assert result["device"] == "cpu"
