"""Run the whole path with real parts: swtpm, bubblewrap, Axolotl, and the installed verifier."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from aicert.appraisal.result import CHECKS
from enclave_runner import machine_facts
from enclave_runner.axolotl.measuring.__main__ import FEWEST_ROWS, MOST_ROWS
from tests.e2e.conftest import Checkout, copy_repository


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Run `pip install .` in an environment that has only cryptography, rich and their
    dependencies.
    """
    site = tmp_path / "site"
    source = tmp_path / "source"
    source.mkdir()
    copy_repository(source)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", f"--target={site}", source),
        ],
        check=True,
    )
    packages = Path(sysconfig.get_paths()["purelib"])
    needed = ("cryptography", "cffi", "_cffi_backend", "pycparser", "rich", "pygments")
    for name in (*needed, "markdown_it", "mdurl", "typing_extensions"):
        for entry in (
            *packages.glob(name),
            *packages.glob(f"{name}*.so"),
            *packages.glob(f"{name}.py"),
        ):
            (site / entry.name).symlink_to(entry)
    return site


def aicert(site: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the installed program with nothing else importable: -S excludes our environment."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "aicert", *map(str, arguments)],
        cwd=site.parent,
        env={"PYTHONPATH": str(site), "PATH": os.defpath},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_clone_certifies_and_everybody_can_check(checkout: Checkout, installed: Path) -> None:
    first = checkout.doit("certify")
    assert first.returncode == 0, first.stderr
    assert "PASSED    (software: the operator could have forged this)" in first.stdout
    assert first.stdout.rstrip().endswith("certificate  certificates/tiny-alpaca/certificate.json")
    before = checkout.certificate.stat()

    again = checkout.doit("certify")
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert checkout.certificate.stat().st_mtime_ns == before.st_mtime_ns

    own = checkout.doit("verify", "--policy", "local", "--format", "json")
    assert own.returncode == 0, own.stderr
    result = json.loads(own.stdout)
    assert (result["verdict"], result["tier"]) == ("passed", "software")
    assert [check["id"] for check in result["checks"]] == list(CHECKS)
    assert {c["verdict"] for c in result["checks"] if c["id"].startswith("boot.")} == {
        "not-applicable"
    }
    # The attested time covers the whole training and more: from before the inputs were hashed until
    # after the outputs were.
    report = json.loads(aicert(installed, "show", "--format=json", checkout.certificate).stdout)
    trained = report["report"]["wallSeconds"]["value"]
    assert trained < result["attestedSeconds"] < trained + 600
    # The ceiling of the run's compute is computed from these values.
    assert report["report"]["processorCount"] == {
        "value": machine_facts.units(())["processorCount"].data, "origin": "measured"
    }  # fmt: skip
    assert report["report"]["acceleratorCount"] == {"value": 0, "origin": "measured"}
    assert report["report"]["weightInputs"] == {"value": "model", "origin": "measured"}
    assert report["report"]["trainSeconds"]["value"] < result["attestedSeconds"]
    compute = result["compute"]
    expected = 1.2e13 * result["attestedSeconds"] * compute["processors"]
    assert compute["ceiling"] == pytest.approx(expected)
    assert 0 < compute["selfReported"] < compute["ceiling"]

    counts = {"epochs": 1.25, "rows": 320, "of": 256, "steps": 40}
    assert result["epochs"] == {"inTrainer": counts, "selfReported": 1.25}

    # The loss was measured after the trainer had ended, on half of the example's rows, or on fewer
    # where a slow machine used up the time for it (test_loss.py checks both counts). Each answer
    # ends in `</s>`.
    loss = report["loss"]
    assert (loss["state"], loss["comparable"]) == ("measured", True)
    assert FEWEST_ROWS <= loss["rows"] <= MOST_ROWS
    assert loss["templateTokens"] == loss["rows"] < loss["tokens"]
    (details,) = [one["detail"] for one in result["checks"] if one["id"] == "outputs.trained"]
    assert (
        f"loss per token on {loss['rows']} rows drawn after training: "
        f"{loss['before']:.4g} before, {loss['after']:.4g} after (measured)\n"
    ) in details
    assert loss["after"] + 1 < loss["before"]
    assert abs(loss["after"] - report["report"]["losses"]["value"][-1]) < 1
    named = report["texts"]
    assert "model/tokenizer.json: pre_tokenizer" in named
    assert "model/tokenizer_config.json: eos_token" in named

    default = checkout.doit("verify")
    assert default.returncode == 1
    assert "tier software" in default.stdout
    assert default.stdout.endswith("\nhint: --policy local\n")

    root = checkout.root / ".aicert" / "ca" / "local.pem"
    outside = aicert(installed, "verify", checkout.certificate, checkout.model, "--policy=local",
                     f"--root={root}")  # fmt: skip
    assert outside.returncode == 0, outside.stderr
    assert aicert(installed, "verify", checkout.certificate, checkout.model).returncode == 1
    # One bound is slightly above the run's ceiling, the other slightly below.
    for bound, code in ((1.001, 0), (0.999, 1)):
        policy = installed.parent / "compute.toml"
        policy.write_text(
            f'extends = "local"\n[compute]\nat-most = {bound * compute["ceiling"]!r}\n'
        )
        bounded = aicert(installed, "verify", checkout.certificate, checkout.model,
                         f"--policy={policy}", f"--root={root}")  # fmt: skip
        assert bounded.returncode == code, bounded.stdout
        assert ("FAILED  policy.compute" in bounded.stdout) == bool(code)
    no_root = aicert(installed, "verify", checkout.certificate, checkout.model, "--policy=local")
    assert no_root.returncode == 3
    for module in ("tpm2_pytss", "doit", "torch", "yaml", "tomlkit"):
        probe = [sys.executable, "-S", "-c", f"import {module}"]
        environment = {"PYTHONPATH": str(installed)}
        assert subprocess.run(probe, env=environment, capture_output=True).returncode == 1

    python = (
        "import aicert, sys; r = aicert.verify(sys.argv[1], sys.argv[2], policy='local', "
        "root=sys.argv[3]); print(r.verdict)"
    )
    files = map(str, (checkout.certificate, checkout.model, root))
    command = [sys.executable, "-S", "-c", python, *files]
    api = subprocess.run(
        command, env={"PYTHONPATH": str(installed)}, capture_output=True, text=True
    )
    assert api.stdout == "passed\n", api.stderr

    weights = checkout.model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    tampered = checkout.doit("verify", "--policy", "local")
    assert tampered.returncode == 1
    assert "FAILED  subject.files" in tampered.stdout
    assert checkout.processes() == []
