"""Runs of the trainer `axolotl-merge` in aicert.toml: what is locked, and what is refused early."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError
from aicert.formats import lockfile as form
from rules.project import config, lock, locked
from rules.project.config_check import check_config
from rules.project.lock import resolve
from tests.adversarial.attacks_disk import safetensors, tensor

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


def matrices(**shapes: tuple[int, int]) -> bytes:
    header, at = {}, 0
    for name, (rows, columns) in shapes.items():
        size = 2 * rows * columns
        header[name] = tensor(at, at + size, (rows, columns), "BF16")
        at += size
    return safetensors(header, at)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files = {
        "aicert.toml": TOML.encode(),
        "merge.yml": MERGE.encode(),
        "base/config.json": b'{"model_type": "llama"}',
        "base/model.safetensors": matrices(**{"layer.weight": (4, 6)}),
        "adapter/adapter_config.json": b'{"peft_type": "LORA", "base_model_name_or_path": "/x"}',
        "adapter/adapter_model.safetensors": matrices(
            **{f"{PAIR}A.weight": (2, 6), f"{PAIR}B.weight": (4, 2)}
        ),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / ".aicert").mkdir()
    return tmp_path


def the_run(root: Path) -> config.Run:
    return config.load(root).run("merged")


def checked(root: Path) -> str | None:
    return check_config(root, resolve(root, the_run(root)))


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
