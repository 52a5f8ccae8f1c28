"""The runner refuses every hostile input before training, and names file and reason."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aicert.errors import AicertError
from rules.host import training_env
from rules.machines import local
from rules.machines.machine import Job
from rules.project import config, lock
from tests.adversarial.inputs import models, rows
from tests.adversarial.inputs.table import CONFIG, Row, table, write

ROOT = Path(__file__).resolve().parents[3]
TOML = """\
[runs.hostile]
config = "path:config.yml"
machine = "here"
outputs = ["model"]

[runs.hostile.inputs]
hostile = "path:hostile"
model = "path:model"
rows = "path:rows"

[machines.here]
driver = "local"
"""
TABLE = list(table())
# Loaders that once let something through, or that read data for a run: each must have a row.
LOADERS = {
    "adapter", "arrow", "config", "csv", "gzip", "jsonl", "links", "parquet", "safetensors",
    "script", "tar", "template", "text", "tokenizer", "zip", "zstd",
}  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment() -> Path:
    return training_env.ensure(ROOT)


def lay_out(row: Row | None, project: Path, environment: Path) -> None:
    """Write a project with one run; its input `hostile` is the row's, or a plain text."""
    write({"train.jsonl": rows.ALPACA})(project / "rows")
    models.model({})(project / "model")
    (project / "config.yml").write_bytes(CONFIG.encode() if row is None else row.whole_config)
    (project / "aicert.toml").write_text(TOML)
    for name in ("aicert", "enclave_runner"):
        (project / name).symlink_to(ROOT / name)
    if row is None:
        (project / "hostile").write_text("a text\n")
        return
    row.lay_out(project / "hostile")
    script = project / "hostile" / rows.SCRIPT
    if script.is_file():
        command = [str(training_env.python(environment)), "-P", script.name]
        subprocess.run(command, cwd=script.parent, check=True)
        script.unlink()


def run(project: Path, environment: Path) -> Path:
    """Lock and run as `./doit certify` does, and raise what the runner refuses."""
    declared = config.load(project).run("hostile")
    locked = lock.resolve(project, declared)
    work = project / "work"
    work.mkdir()
    return local.execute(
        Job(
            root=project,
            run=declared.name,
            machine=declared.machine,
            lockfile=locked.data,
            inputs=locked.paths,
            nonce=bytes(32),
            training_env=environment,
            work=work,
        )
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.loader}: {row.name}")
def test_it_is_refused_before_training(row: Row, tmp_path: Path, environment: Path) -> None:
    lay_out(row, tmp_path, environment)
    with pytest.raises(AicertError) as caught:
        run(tmp_path, environment)
    refusal = f"{caught.value.message}\n{caught.value.hint}"
    for words in row.words:
        assert words in refusal
    assert "allow-pickle" not in refusal or "pickle" in "".join(row.words)
    # The trainer's scratch folder is made when the trainer starts, and here it never starts.
    work = tmp_path / "work"
    assert not work.exists() or not list((work / "scratch").iterdir())
    assert not list(tmp_path.rglob("certificate.json"))
    assert not list(tmp_path.rglob("training.log"))


def test_every_loader_has_a_row() -> None:
    assert {row.loader for row in TABLE} == LOADERS
    names = [(row.loader, row.name) for row in TABLE]
    assert len(names) == len(set(names))
