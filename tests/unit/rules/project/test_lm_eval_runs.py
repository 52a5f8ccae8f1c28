"""Runs of the trainer `lm-eval` in aicert.toml: what is locked, and what is refused early."""

import json
from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.formats import lockfile as form
from rules.commands import editing
from rules.project import lock, locked
from rules.project.lock import resolve
from tests.unit.enclave_runner.lm_eval.test_definition import MC
from tests.unit.rules.project.one_run import checked, lay_out, matrices, the_run

TOML = """
[runs.asked]
config = "path:asked.yml"
machine = "here"
outputs = ["results"]
trainer = "lm-eval"
[runs.asked.inputs]
model = "path:model"
"""
INPUTS = 'local-mc = "path:local_mc.yaml"\nrows = "path:rows.jsonl"\n'
MACHINE = '[machines.here]\ndriver = "local"\n'
CONFIG = "base_model: input:model\ntasks: [input:local-mc]\n"
TASK = MC | {"dataset_kwargs": {"data_files": {"test": "input:rows"}}}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files: dict[str, str | bytes] = {
        "aicert.toml": TOML + INPUTS + MACHINE,
        "asked.yml": CONFIG,
        "local_mc.yaml": json.dumps(TASK),
        "model/config.json": '{"model_type": "llama"}',
        "model/model.safetensors": matrices(layer=(4, 6)),
        "rows.jsonl": '{"question":"a","answer":0}\n',
    }
    return lay_out(tmp_path, files)


def test_an_evaluation_on_tasks_is_locked_with_its_trainer(root: Path) -> None:
    run = the_run(root)
    assert run.makes_results
    assert checked(root) is None
    lock.write(root, resolve(root, run))
    assert form.parse(locked.read(root, "asked")).trainer == "lm-eval"


def test_what_the_runner_would_refuse_is_refused_early(root: Path) -> None:
    (root / "asked.yml").write_text(CONFIG + "limits: 1\n")
    with pytest.raises(ConfigError, match=r"^run asked: asked\.yml: config: 'limits'") as refusal:
        checked(root)
    assert refusal.value.hint == "did you mean `limit`?"
    (root / "asked.yml").write_text(CONFIG)
    (root / "local_mc.yaml").write_text(json.dumps(TASK | {"process_docs": "utils.docs"}))
    with pytest.raises(ConfigError, match=r"local-mc: process_docs: a task here runs no code"):
        checked(root)


def test_inputs_are_added_one_after_another(root: Path) -> None:
    (root / "aicert.toml").write_text(TOML + MACHINE)
    files = {"config": "asked.yml", "local-mc": "local_mc.yaml", "rows": "rows.jsonl"}
    for name, file in files.items():
        editing.add(root, "asked", name, f"path:{file}", allow_pickle=False)
    assert checked(root) is None


def test_a_task_of_the_image_is_checked_without_its_rows_as_an_input(root: Path) -> None:
    (root / "aicert.toml").write_text(TOML + MACHINE)
    (root / "asked.yml").write_text("base_model: input:model\ntasks: [aicert-copy]\n")
    assert checked(root) is None
    (root / "asked.yml").write_text("base_model: input:model\ntasks: [aicert-coping]\n")
    with pytest.raises(ConfigError, match="must be an `input:` reference") as refusal:
        checked(root)
    assert "aicert-addition, aicert-copy, aicert-weekdays" in str(refusal.value.hint)
