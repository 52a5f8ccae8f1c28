"""Runs of the trainer `mergekit` in aicert.toml: what is locked, and what is refused early."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError
from aicert.formats import lockfile as form
from rules.project import config, lock, locked
from rules.project.lock import resolve
from tests.unit.rules.project.one_run import checked, lay_out, matrices, the_run

TOML = """
[runs.merged]
config = "path:merge.yml"
machine = "here"
outputs = ["model"]
trainer = "mergekit"
[runs.merged.inputs]
one = "path:one"
two = "path:two"
[machines.here]
driver = "local"
"""
MERGE = """
merge_method: slerp
base_model: input:one
models: [{model: "input:one"}, {model: "input:two"}]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files: dict[str, str | bytes] = {"aicert.toml": TOML, "merge.yml": MERGE}
    for name in ("one", "two"):
        files[f"{name}/config.json"] = '{"model_type": "llama"}'
        files[f"{name}/model.safetensors"] = matrices(layer=(4, 6))
    return lay_out(tmp_path, files)


def test_a_merge_of_models_is_locked_with_its_trainer(root: Path) -> None:
    assert checked(root) is None
    lock.write(root, resolve(root, the_run(root)))
    assert form.parse(locked.read(root, "merged")).trainer == "mergekit"


def test_what_the_runner_would_refuse_is_refused_early(root: Path) -> None:
    (root / "merge.yml").write_text(MERGE + "tokenizer_source: union\n")
    with pytest.raises(ConfigError, match=r"^run merged: merge\.yml: config: 'tokenizer_source'"):
        checked(root)
    (root / "merge.yml").write_text(MERGE.replace('"input:two"', "org/name"))
    with pytest.raises(ConfigError, match=r"models\[1\]\.model: must be an `input:` reference"):
        checked(root)
    (root / "merge.yml").write_text(MERGE)
    (root / "two" / "model.safetensors").write_bytes(matrices(layer=(4, 5)))
    with pytest.raises(LockError, match=r"^run merged: 'two' cannot be merged with the base: "):
        checked(root)


def test_a_measured_machine_needs_the_image_with_tools(root: Path) -> None:
    (root / "aicert.toml").write_text(TOML.replace('"local"', '"qemu"'))
    with pytest.raises(ConfigError, match="whose packages the image of machine here lacks"):
        config.load(root)
