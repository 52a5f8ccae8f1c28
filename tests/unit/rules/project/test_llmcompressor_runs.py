"""Runs of the trainer `llmcompressor` in aicert.toml: what is locked, and what is refused early."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError
from aicert.formats import lockfile as form
from rules.project import config, lock, locked
from rules.project.lock import resolve
from tests.unit.rules.project.one_run import checked, lay_out, matrices, the_run

TOML = """
[runs.small]
config = "path:quantise.yml"
machine = "here"
outputs = ["model"]
trainer = "llmcompressor"
[runs.small.inputs]
tuned = "path:tuned"
[machines.here]
driver = "local"
"""
QUANTISE = "model: input:tuned\nscheme: W8A8\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay_out(
        tmp_path,
        {
            "aicert.toml": TOML,
            "quantise.yml": QUANTISE,
            "tuned/config.json": '{"model_type": "llama"}',
            "tuned/model.safetensors": matrices(layer=(4, 6)),
        },
    )


def test_a_quantisation_is_locked_with_its_trainer(root: Path) -> None:
    assert checked(root) is None
    lock.write(root, resolve(root, the_run(root)))
    assert form.parse(locked.read(root, "small")).trainer == "llmcompressor"


def test_what_the_runner_would_refuse_is_refused_early(root: Path) -> None:
    (root / "quantise.yml").write_text(QUANTISE + "recipe: mine\n")
    with pytest.raises(ConfigError, match=r"^run small: quantise\.yml: config: 'recipe': a quant"):
        checked(root)
    (root / "quantise.yml").write_text(QUANTISE)
    (root / "tuned/config.json").write_text(
        '{"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}'
    )
    with pytest.raises(LockError, match=r"^run small: 'tuned' cannot be quantised: its config"):
        checked(root)


def test_a_measured_machine_needs_the_tools_image(root: Path) -> None:
    (root / "aicert.toml").write_text(TOML.replace('"local"', '"qemu"'))
    with pytest.raises(ConfigError, match=r"whose packages the image of machine here lacks"):
        config.load(root)
