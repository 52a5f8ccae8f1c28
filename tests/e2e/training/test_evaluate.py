"""The real runner evaluates a model: certified, equal twice, and the same loss as Transformers'."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aicert.files.tree import read_file, read_tree
from aicert.formats import evaluation
from aicert.formats.digest import Digest
from aicert.formats.listing import dir_digest
from enclave_runner.evaluate import evaluating
from enclave_runner.evaluate.evaluation import Evaluated, Evaluation
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.rows import Room
from enclave_runner.sandbox.containment import Limits
from rules.example import example
from rules.host import training_env
from tests.e2e.conftest import REPOSITORY, Checkout
from tests.e2e.training.test_training import ADAPTER_RUN, LORA

pytestmark = pytest.mark.slow

RUNS = (
    ADAPTER_RUN
    + """
[runs.look]
config  = "path:mine/look.yml"
machine = "local"
outputs = ["results"]
trainer = "axolotl-evaluate"
default = false
[runs.look.inputs]
adapter = "run:sft/adapter"
model   = "path:examples/tiny-llama"
rows    = "path:examples/held-out.jsonl"
"""
)
LOOK = """\
base_model: input:model
adapter: lora
lora_model_dir: input:adapter
datasets: [{path: input:rows, type: completion}]
sequence_len: 256
"""
# Compute Transformers' own loss: the mean over all tokens except the first one in each row.
BY_TRANSFORMERS = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, rows = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
total = number = 0
for line in open(rows):
    ids = tokenizer(json.loads(line)["text"])["input_ids"] + [tokenizer.eos_token_id]
    ids = torch.tensor([ids])
    with torch.inference_mode():
        total += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
    number += ids.shape[1] - 1
print(number, total / number)
"""


def results(checkout: Checkout, run: str) -> Path:
    return checkout.root / "outputs" / run / "results" / "results.json"


def verified(checkout: Checkout, *words: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            sys.executable, "-m", "aicert", "verify", *map(str, words),
            "--policy=local", f"--root={checkout.root}/.aicert/ca/local.pem",
        ],
        cwd=checkout.root, capture_output=True, text=True,
    )  # fmt: skip


def test_the_example_is_evaluated_twice_with_equal_bytes(checkout: Checkout) -> None:
    certified = checkout.doit("certify", "tiny-eval")
    assert certified.returncode == 0, certified.stderr
    assert "PASSED    results of an evaluation, not a model (software" in certified.stdout
    first = results(checkout, "tiny-eval").read_bytes()
    read = evaluation.parse(first)
    assert (read.rows, read.left_out, read.base.input) == (3, 0, "model")

    again = checkout.doit("reproduce", "tiny-eval")
    assert again.returncode == 0, again.stdout + again.stderr

    root = checkout.root
    done = subprocess.run(
        [
            training_env.python(training_env.location(REPOSITORY)), "-c", BY_TRANSFORMERS,
            root / "examples/tiny-llama", root / "examples/held-out.jsonl",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tokens, loss = done.stdout.split()
    assert int(tokens) == read.tokens
    assert read.loss == pytest.approx(float(loss), abs=1e-4)


def test_an_adapter_is_evaluated_and_a_failure_has_a_certificate(checkout: Checkout) -> None:
    mine = checkout.root / "mine"
    mine.mkdir()
    steps = (checkout.root / "examples" / "tiny-alpaca.yml").read_text()
    (mine / "sft.yml").write_text(steps.replace("max_steps: 40", "max_steps: 3") + LORA)
    (mine / "look.yml").write_text(LOOK)
    with (checkout.root / "aicert.toml").open("a") as file:
        file.write(RUNS)
    for command in (("lock", "sft"), ("certify", "sft"), ("lock", "look"), ("certify", "look")):
        done = checkout.doit(*command)
        assert done.returncode == 0, done.stderr
    read = evaluation.parse(results(checkout, "look").read_bytes())
    assert read.adapter is not None
    adapter = json.loads(
        verified(
            checkout, checkout.root / "certificates/sft/certificate.json",
            checkout.root / "outputs/sft/adapter", "--format=json",
        ).stdout
    )["subject"]["adapter"]  # fmt: skip
    assert str(read.adapter.digest) == adapter

    # No row fits, so there is nothing to measure.
    (mine / "look.yml").write_text(LOOK.replace("256", "1"))
    assert checkout.doit("lock", "look").returncode == 0
    failed = checkout.doit("certify", "look")
    assert failed.returncode == 1
    assert "no row has a token to predict that fits into sequence_len" in failed.stderr
    shown = verified(
        checkout, checkout.root / "certificates/look/certificate.json", "--certificate-only"
    )
    assert shown.returncode == 1
    assert "ended with 1" in shown.stdout


def measured(name: str, path: Path) -> MeasuredInput:
    files = read_tree(path) if path.is_dir() else {"": read_file(path)}
    digest = dir_digest(files) if path.is_dir() else Digest("sha256", files[""].sha256)
    return MeasuredInput(name=name, path=path, digest=digest, files=files, stat_keys={})


def evaluated(
    folder: Path,
    record: Evaluation[Any],
    config: str,
    names: dict[str, Path],
    tools: Path | None = None,
) -> Evaluated:
    """Run a trainer's child in the sandbox, below `folder`, as the machine does."""
    inputs = [measured(name, path) for name, path in sorted(names.items())]
    room = Room(
        folder=folder / "records", training_env=training_env.ensure_shown(REPOSITORY),
        limits=Limits(),
    )  # fmt: skip
    asked = record.read(config.encode(), inputs)
    prepared = record.prepare(asked, inputs, room, folder / "models")
    return record.run(prepared, inputs, room, folder / "scratch", tools)


def replace_in_texts(model: Path, pattern: str, content: str) -> None:
    """Let the model's tokenizer replace what matches in each text."""
    file = model / "tokenizer.json"
    tokenizer = json.loads(file.read_bytes())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
    file.chmod(0o644)
    file.write_text(json.dumps(tokenizer))


def test_texts_that_the_tokenizer_does_not_keep_have_no_loss(tmp_path: Path) -> None:
    example.make_example(tmp_path)
    replace_in_texts(tmp_path / example.MODEL, "[a-z]", "a")
    (tmp_path / "rows.jsonl").write_text('{"text":"the ferry leaves at noon"}\n')
    done = evaluated(
        tmp_path,
        evaluating.EVALUATION,
        LOOK.replace("adapter: lora\nlora_model_dir: input:adapter\n", ""),
        {
            "model": tmp_path / example.MODEL,
            "rows": tmp_path / "rows.jsonl",
        },
    )
    assert done.data is None
    assert "the tokenizer does not keep the texts of the rows" in done.result.log.read_text()
