"""Runs of the trainer `convert-hf-to-gguf` in aicert.toml: what is locked, and refused early."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError
from aicert.formats import lockfile as form
from rules.project import config, lock, locked
from rules.project.lock import resolve
from tests.unit.enclave_runner.gguf import model
from tests.unit.rules.project.one_run import checked, lay_out, the_run

TOML = """
[runs.converted]
config = "path:convert.yml"
machine = "here"
outputs = ["model"]
trainer = "convert-hf-to-gguf"
[runs.converted.inputs]
llama = "path:llama"
[machines.here]
driver = "local"
"""
CONVERT = "model: input:llama\ntype: q8_0\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, {"aicert.toml": TOML, "convert.yml": CONVERT})
    model.write(tmp_path / "llama")
    return tmp_path


def test_a_conversion_is_locked_with_its_trainer(root: Path) -> None:
    assert checked(root) is None
    lock.write(root, resolve(root, the_run(root)))
    assert form.parse(locked.read(root, "converted")).trainer == "convert-hf-to-gguf"


def test_what_the_runner_would_refuse_is_refused_early(root: Path) -> None:
    (root / "convert.yml").write_text(CONVERT.replace("q8_0", "q4_k_m"))
    with pytest.raises(ConfigError, match=r"^run converted: convert\.yml: config: type: must be"):
        checked(root)
    (root / "convert.yml").write_text(CONVERT)
    (root / "llama" / "tokenizer.model").unlink()
    with pytest.raises(LockError, match=r"^run converted: the model has no tokenizer\.model"):
        checked(root)


def test_a_measured_machine_needs_the_tools_image(root: Path) -> None:
    (root / "aicert.toml").write_text(TOML.replace('"local"', '"qemu"'))
    with pytest.raises(ConfigError, match="whose packages the image of machine here lacks"):
        config.load(root)
