"""Base, LoRA and their merge, by the real runner: certified, linked, equal twice, and no other
model.
"""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.errors import LockError
from enclave_runner.merge import fitting
from rules.example import example
from rules.host import training_env
from tests.e2e.conftest import REPOSITORY, Checkout
from tests.e2e.training.test_training import ADAPTER_RUN, LORA

pytestmark = pytest.mark.slow

RUNS = (
    ADAPTER_RUN
    + """
[runs.merged]
config  = "path:mine/merge.yml"
machine = "local"
outputs = ["model"]
trainer = "axolotl-merge"
default = false
[runs.merged.inputs]
base    = "path:examples/tiny-llama"
adapter = "run:sft/adapter"
"""
)
ADAPTER = "adapter_model.safetensors"
# Kinds of adapters that have a different base model (`merge_variants.py`).
GPT2 = ("on its side", "biases")
MERGE = "base_model: input:base\nlora_model_dir: input:adapter\n"
# PEFT's own merge, which loads whole models. Prints the largest difference, and how many tensors
# there are.
BY_PEFT = """
import sys, torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
base, adapter, merged = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
wanted = model.merge_and_unload().state_dict()
found = load_file(merged + "/model.safetensors")
worst = max((wanted[name].float() - tensor.float()).abs().max().item()
            for name, tensor in found.items())
print(len(found), worst)
"""


@pytest.fixture
def merging(checkout: Checkout) -> Checkout:
    """Return a checkout with a trained and certified adapter, and a locked merge."""
    mine = checkout.root / "mine"
    mine.mkdir()
    steps = (checkout.root / "examples" / "tiny-alpaca.yml").read_text()
    (mine / "sft.yml").write_text(steps.replace("max_steps: 40", "max_steps: 3") + LORA)
    (mine / "merge.yml").write_text(MERGE)
    with (checkout.root / "aicert.toml").open("a") as file:
        file.write(RUNS)
    for command in (("lock", "sft"), ("certify", "sft"), ("lock", "merged")):
        done = checkout.doit(*command)
        assert done.returncode == 0, done.stderr
    return checkout


def certificate_of(checkout: Checkout, run: str) -> Path:
    return checkout.root / "certificates" / run / "certificate.json"


def verified(
    checkout: Checkout, model: Path, *more: str, run: str = "merged"
) -> "subprocess.CompletedProcess[str]":
    """Verify as a person who has the model that a run made, and its certificate."""
    return subprocess.run(
        [
            sys.executable, "-m", "aicert", "verify", certificate_of(checkout, run), model,
            "--policy=local", f"--root={checkout.root}/.aicert/ca/local.pem", *more,
        ],
        cwd=checkout.root, capture_output=True, text=True,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_lora_is_merged_certified_and_its_lineage_verified(merging: Checkout) -> None:
    done = merging.doit("certify", "merged")
    assert done.returncode == 0, done.stderr
    root, model = merging.root, merging.root / "outputs" / "merged" / "model"
    lineage = f"--lineage={root}/certificates"
    shown = verified(merging, model, lineage)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "PASSED    a merge, nothing was trained (software" in shown.stdout
    assert "14 tensors changed, 0 new, 7 unchanged" in shown.stdout
    assert "run:sft/adapter" in shown.stdout.partition("\nlineage\n")[2]
    checks = json.loads(verified(merging, model, lineage, "--format=json").stdout)
    by_id = {check["id"]: check for check in checks["checks"]}
    assert by_id["outputs.derived"]["verdict"] == "ok"
    assert by_id["outputs.trained"]["verdict"] == "not-applicable"
    assert "adapterInput (measured): 'adapter'" in by_id["outputs.derived"]["detail"]

    # Without the adapter's certificate, nothing shows where the adapter came from.
    alone = verified(merging, model, f"--lineage={certificate_of(merging, 'merged')}")
    assert alone.returncode == 1
    assert "nothing shows that input adapter is run:sft/adapter" in alone.stdout

    # PEFT's own merge gives the same result.
    environment = training_env.python(training_env.location(REPOSITORY))
    words = [root / "examples/tiny-llama", root / "outputs/sft/adapter", model]
    by_peft = subprocess.run(
        [environment, "-c", BY_PEFT, *words], capture_output=True, text=True, check=True
    )
    count, worst = by_peft.stdout.split()[-2:]
    assert (int(count), float(worst) < 1e-6) == (21, True)

    # A second merge gives the same bytes; another model does not pass.
    before = files(model)
    again = merging.doit("certify", "merged", "--again")
    assert again.returncode == 0, again.stderr
    assert files(model) == before
    shutil.copyfile(root / "examples/tiny-llama/model.safetensors", model / "model.safetensors")
    planted = verified(merging, model)
    assert planted.returncode == 1
    assert "error: subject.files: the model directory is not output model" in planted.stdout

    # A path is not an input, and an adapter whose settings open a file is not an adapter.
    mine, toml = root / "mine", root / "aicert.toml"
    (mine / "merge.yml").write_text(MERGE.replace("input:adapter", "path/of/mine"))
    refused = merging.doit("lock", "merged")
    assert refused.returncode == 3
    assert "lora_model_dir: must be an `input:` reference" in refused.stderr
    (mine / "merge.yml").write_text(MERGE)
    shutil.copytree(root / "outputs" / "sft" / "adapter", mine / "adapter")
    settings = mine / "adapter" / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"x_path": "/etc/passwd"}))
    toml.write_text(toml.read_text().replace("run:sft/adapter", "path:mine/adapter"))
    refused = merging.doit("lock", "merged")
    assert refused.returncode == 2, refused.stderr
    assert "x_path says '/etc/passwd'" in refused.stderr


def test_adapters_that_are_taken_are_merged_as_peft_merges_them(tmp_path: Path) -> None:
    """The runner refuses, by the names of their tensors, adapters that Axolotl merges in part or
    wrongly.
    """
    example.make_example(tmp_path)
    base = tmp_path / example.MODEL
    subprocess.run(
        [
            training_env.python(training_env.ensure(REPOSITORY)), "-P",
            REPOSITORY / "tests/e2e/training/merge_variants.py", base, tmp_path,
        ],
        check=True, capture_output=True, env={"HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1"},
    )  # fmt: skip
    worst: dict[str, float] = json.loads((tmp_path / "worst.json").read_text())
    taken = set()
    for kind in worst:
        of = tmp_path / "gpt2" if kind in GPT2 else base
        whole, adapter = (
            fitting.tensors_of([path])
            for path in (of / "model.safetensors", tmp_path / kind / "adapter" / ADAPTER)
        )
        with contextlib.suppress(LockError):
            fitting.targets(adapter, whole)
            taken.add(kind)
    assert taken == {"plain", "dora", "rslora", "ranks", "head", "on its side"}
    assert {kind for kind, difference in worst.items() if difference > 1e-6} == (
        worst.keys() - taken
    )
