"""Runs of the trainer `axolotl-merge` in aicert.toml: what is locked, and what is refused early."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError
from aicert.formats import lockfile as form
from rules.project import lock, locked
from rules.project.lock import resolve
from tests.unit.rules.project.one_run import checked, lay_out, matrices, the_run

TOML = """
[runs.merged]
config = "path:merge.yml"
machine = "here"
outputs = ["model"]
trainer = "axolotl-merge"
[runs.merged.inputs]
base = "path:base"
adapter = "path:adapter"
[machines.here]
driver = "local"
"""
MERGE = "base_model: input:base\nlora_model_dir: input:adapter\n"
PAIR = "base_model.model.layer.lora_"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files: dict[str, str | bytes] = {
        "aicert.toml": TOML,
        "merge.yml": MERGE,
        "base/config.json": '{"model_type": "llama"}',
        "base/model.safetensors": matrices(**{"layer.weight": (4, 6)}),
        "adapter/adapter_config.json": '{"peft_type": "LORA", "base_model_name_or_path": "/x"}',
        "adapter/adapter_model.safetensors": matrices(
            **{f"{PAIR}A.weight": (2, 6), f"{PAIR}B.weight": (4, 2)}
        ),
    }
    return lay_out(tmp_path, files)


def test_a_merge_is_locked_with_its_trainer(root: Path) -> None:
    assert checked(root) is None
    lock.write(root, resolve(root, the_run(root)))
    data = locked.read(root, "merged")
    assert form.parse(data).trainer == "axolotl-merge"
    assert lock.current(root, the_run(root)).data == data


def test_what_the_runner_would_refuse_is_refused_early(root: Path) -> None:
    (root / "merge.yml").write_text(MERGE + "learning_rate: 1\n")
    with pytest.raises(ConfigError, match=r"^run merged: merge\.yml: config: 'learning_rate'"):
        checked(root)
    (root / "merge.yml").write_text(MERGE)
    weights = matrices(**{f"{PAIR}A.weight": (2, 5), f"{PAIR}B.weight": (4, 2)})
    (root / "adapter" / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(
        LockError, match=r"^run merged: the adapter cannot be merged into this base"
    ):
        checked(root)
    (root / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(LockError, match=r"^run merged: input adapter holds no weights"):
        checked(root)


def test_a_base_that_lacks_its_config_is_left_to_the_runner(root: Path) -> None:
    (root / "base" / "config.json").unlink()
    assert checked(root) is None
