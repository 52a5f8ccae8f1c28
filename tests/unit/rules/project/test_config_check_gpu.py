"""Hints for a machine without a GPU before anything starts; none for one with a GPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from rules.project import config, lock
from rules.project.config_check import check_config
from tests.adversarial.inputs import models
from tests.adversarial.inputs.table import CONFIG, write
from tests.adversarial.inputs.test_hostile_inputs import TOML


def test_the_hint_names_the_run_the_machine_and_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("bf16: false", "bf16: auto")
    write({"rows/a.jsonl": b"{}\n", "hostile/x": b"x", "config.yml": text.encode()})(tmp_path)
    (tmp_path / "aicert.toml").write_text(TOML)
    models.model({})(tmp_path / "model")
    run = config.load(tmp_path).run("hostile")
    resolved = lock.resolve(tmp_path, run)
    effective = check_config(tmp_path, resolved, machine=replace(run.machine, gpu=False))
    assert effective is not None
    assert '"bf16": "auto"' in effective or '"bf16":"auto"' in effective
    printed = capsys.readouterr().err
    assert f"hint: run hostile: machine {run.machine.name} has no GPU" in printed
    assert "write `bf16: false`" in printed
    check_config(tmp_path, resolved, machine=replace(run.machine, gpu=True))
    assert "GPU" not in capsys.readouterr().err


def test_kernels_are_taken_for_a_machine_with_a_gpu_alone(tmp_path: Path) -> None:
    text = f"{CONFIG}\nplugins: [liger.LigerPlugin]\nliger_rope: true\n"
    write({"rows/a.jsonl": b"{}\n", "hostile/x": b"x", "config.yml": text.encode()})(tmp_path)
    (tmp_path / "aicert.toml").write_text(TOML)
    models.model({})(tmp_path / "model")
    run = config.load(tmp_path).run("hostile")
    resolved = lock.resolve(tmp_path, run)
    for gpu in (False, True):
        effective = check_config(tmp_path, resolved, machine=replace(run.machine, gpu=gpu))
        assert effective is not None
        assert ("LigerPlugin" in effective) is gpu
        assert ("liger_rope" in effective) is gpu


def test_a_checkpoint_that_is_not_kept_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{CONFIG}\nsave_steps: 5\nsave_strategy: epoch\n"
    write({"rows/a.jsonl": b"{}\n", "hostile/x": b"x", "config.yml": text.encode()})(tmp_path)
    (tmp_path / "aicert.toml").write_text(TOML)
    models.model({})(tmp_path / "model")
    run = config.load(tmp_path).run("hostile")
    check_config(tmp_path, lock.resolve(tmp_path, run), machine=run.machine)
    printed = capsys.readouterr().err
    assert "hint: run hostile: `save_steps: 5` is dropped: checkpoints are not kept" in printed
    assert "`save_strategy: epoch` is dropped" in printed
