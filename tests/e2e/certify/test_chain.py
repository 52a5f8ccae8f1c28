"""A base model and its fine-tune, made by the real trainer: no link of the chain can be swapped."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout

RUN = """
[runs.{name}]
config = "path:{name}.yml"
machine = "local"
outputs = ["model"]
[runs.{name}.inputs]
model = "{model}"
alpaca = "path:examples/alpaca"
"""
STEPS = "max_steps: 40", "max_steps: 3"


@pytest.fixture
def chain(checkout: Checkout) -> Checkout:
    config = (checkout.root / "examples" / "tiny-alpaca.yml").read_text().replace(*STEPS)
    runs = {"base": "path:examples/tiny-llama", "tuned": "run:base/model"}
    for name in runs:
        (checkout.root / f"{name}.yml").write_text(config)
    with (checkout.root / "aicert.toml").open("a") as file:
        file.writelines(RUN.format(name=name, model=model) for name, model in runs.items())
    done = checkout.doit("lock", "base")
    assert done.returncode == 0, done.stderr
    return checkout


def certificate_of(checkout: Checkout, run: str) -> Path:
    return checkout.root / "certificates" / run / "certificate.json"


def verified(checkout: Checkout, *lineage: Path) -> "subprocess.CompletedProcess[str]":
    """Return the verdict for a person who has `tuned` and the certificates `lineage`."""
    root = checkout.root
    command = [sys.executable, "-m", "aicert", "verify", str(certificate_of(checkout, "tuned"))]
    command += [f"{root}/outputs/tuned/model", "--policy=local"]
    command += [f"--root={root}/.aicert/ca/local.pem", *(f"--lineage={path}" for path in lineage)]
    command.append(f"--lockfile={root}/lockfiles/tuned.lock.toml")
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


@pytest.mark.slow
def test_a_chain_of_real_trainings(chain: Checkout, tmp_path: Path) -> None:
    done = chain.doit("certify", "tuned", "--accept")
    assert done.returncode == 0, done.stderr
    base = certificate_of(chain, "base")
    whole = verified(chain, base.parents[1])
    assert whole.returncode == 0, whole.stdout + whole.stderr
    tree = whole.stdout.partition("\nlineage\n")[2].splitlines()[0]
    assert tree.split()[0] == "ok", tree
    assert "run:base/model" in tree

    absent = verified(chain, certificate_of(chain, "tuned"))
    assert absent.returncode == 1
    assert "you gave no certificate for that run" in absent.stdout
    text = base.read_text()
    tampered = tmp_path / "tampered.json"
    at = text.index('"sig":"') + 20
    tampered.write_text(text[:at] + ("B" if text[at] != "B" else "C") + text[at + 1 :])
    refused = verified(chain, tampered)
    assert refused.returncode == 1, refused.stdout
    assert "FAILED  lineage.ancestors" in refused.stdout
    assert "statement.signature" in refused.stdout

    # The base is trained again and gets other weights; the model built on it must not follow
    # silently.
    reviewed = (chain.root / "lockfiles" / "tuned.lock.toml").read_bytes()
    config = chain.root / "base.yml"
    config.write_text(config.read_text().replace("learning_rate: 0.003", "learning_rate: 0.004"))
    assert chain.doit("lock", "base").returncode == 0
    stale = chain.doit("certify", "tuned")
    assert stale.returncode == 2
    assert "lockfile of run tuned is stale: input model" in stale.stderr
    assert base.read_text() != text
    assert (chain.root / "lockfiles" / "tuned.lock.toml").read_bytes() == reviewed
    other = verified(chain, base)
    assert other.returncode == 1
    assert "that run's certificate has a different output" in other.stdout
