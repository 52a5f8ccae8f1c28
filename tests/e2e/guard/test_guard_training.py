"""Axolotl's own command under the guard reads signed inputs, and its outputs are signed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from aicert.cli.main import main
from rules.example import rows
from rules.host import training_env
from tests.e2e.guard import guarded
from tests.e2e.guard.guarded import ROOT, Guarded
from tests.unit.signing_keys import pair

pytestmark = pytest.mark.slow

CONFIG = """
base_model: base
datasets: [{path: rows, type: alpaca, data_files: [rows/train.jsonl]}]
output_dir: trained
sequence_len: 128
max_steps: 2
micro_batch_size: 2
gradient_accumulation_steps: 1
learning_rate: 0.003
optimizer: adamw_torch_fused
save_steps: 1
bf16: false
fp16: false
tf32: false
attn_implementation: sdpa
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    guarded_python = guarded.make(tmp_path_factory.mktemp("training"), training_env.ensure(ROOT))
    keys = pair(guarded_python.folder, "k")
    policy = f'[[signer]]\nkey = "k.pub"\n\n[sign]\nkey = "{keys.key.name}"\n'
    (guarded_python.folder / "guard.toml").write_text(policy)
    (guarded_python.folder / "config.yaml").write_text(CONFIG)
    base = guarded.write(guarded_python.folder / "base", guarded.tiny_model())
    data = guarded.write(guarded_python.folder / "rows", {"train.jsonl": rows.jsonl()})
    for folder in (base, data):
        guarded.sign(folder, keys.key)
    return guarded_python


def train(environment: Guarded) -> subprocess.CompletedProcess[str]:
    command = ("train", "config.yaml", "--launcher", "python")
    program = (str(environment.python), "-m", "axolotl.cli.main", *command)
    return environment.aicert(
        "guard", "--policy", "guard.toml", "--", *program, more={"AXOLOTL_DO_NOT_TRACK": "1"}
    )


@pytest.fixture(scope="module")
def trained(environment: Guarded) -> subprocess.CompletedProcess[str]:
    return train(environment)


def test_axolotl_trains_on_signed_inputs_and_signs_its_output(
    environment: Guarded, trained: subprocess.CompletedProcess[str]
) -> None:
    assert trained.returncode == 0, trained.stderr[-3000:]
    key = environment.folder / "k.pub"
    for name in ("trained", "trained/checkpoint-1", "trained/checkpoint-2"):
        folder = environment.folder / name
        assert (folder / "model.safetensors").exists()
        assert main(["verify-signature", str(folder), "--key", str(key)]) == 0, name


@pytest.mark.usefixtures("trained")
def test_axolotl_does_not_train_on_rows_that_were_changed(environment: Guarded) -> None:
    place = environment.folder / "rows/train.jsonl"
    place.write_bytes(place.read_bytes().replace(b"a", b"e", 1))
    # Rows that Axolotl prepared earlier count as unsigned, whatever they were prepared from.
    again = train(environment)
    assert "last_run_prepared" in again.stderr
    assert "the data set has no signature or certificate" in again.stderr
    shutil.rmtree(environment.folder / "last_run_prepared")
    changed = train(environment)
    assert changed.returncode != 0
    assert "files.match: the files are not the signed ones" in changed.stderr + changed.stdout
