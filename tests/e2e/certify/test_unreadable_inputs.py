"""A host hides files that the machine hashed from the training: the runner refuses to continue.

The runner is the real one on a real software TPM. It is root, and another user trains, as in the
measured machine. tests/unit/enclave_runner/inputs/test_measure.py has all the ways of hiding files.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.files.tree import read_tree
from aicert.formats.digest import of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import LockedInput, Lockfile, emit
from rules.machines.ca import local_ca
from rules.machines.swtpm import platform

ROOT = Path(__file__).resolve().parents[3]
CONFIG = b"base_model: input:model\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_file_that_the_trainer_cannot_read_ends_the_run(tmp_path: Path) -> None:
    model, config, tpm = (tmp_path / name for name in ("model", "config", "tpm"))
    for folder in (model, tpm, tmp_path / "out"):
        folder.mkdir()
    for place in (tmp_path, *tmp_path.parents):
        place.chmod(place.stat().st_mode | 0o001)
    config.write_bytes(CONFIG)
    (model / "config.json").write_text("{}")
    (model / "generation_config.json").write_text("{}")
    files = read_tree(model)
    size = sum(fact.size for fact in files.values())
    lockfile = Lockfile(
        run="r",
        trainer="axolotl",
        outputs=("model",),
        inputs=(
            LockedInput(
                name="config", source="path:c", uri="path:c", size=len(CONFIG),
                digest=of_bytes(CONFIG),
            ),
            LockedInput(
                name="model", source="path:m", uri="path:m", size=size, digest=dir_digest(files)
            ),
        ),
    )  # fmt: skip
    (tmp_path / "lock.toml").write_bytes(emit(lockfile))
    (model / "generation_config.json").chmod(0o600)
    with platform(tpm, local_ca(tmp_path / "checkout", "local")) as tcti:
        words = [
            f"--tcti={tcti}", f"--nonce={'0' * 64}", f"--lockfile={tmp_path / 'lock.toml'}",
            f"--input=config={config}", f"--input=model={model}", "--trainer-user=65534",
            f"--scratch={tmp_path / 'scratch'}", f"--out={tmp_path / 'out'}",
            f"--training-env={tmp_path}", "--events-fd=1", "--time-limit=60", f"--memory={1 << 30}",
            "--processes=64", f"--scratch-limit={1 << 30}", "--threads=1",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-P", "-m", "enclave_runner", *words],
            cwd=tpm, env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            capture_output=True, check=False,
        )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 2, done.stderr
    message = "input model: the trainer cannot read 'generation_config.json': Permission denied"
    assert events[-1]["message"] == message
    assert not any(event["event"] == "training" for event in events)
    assert not list((tmp_path / "out").iterdir())
