"""Real Axolotl in the sandbox: the same bytes twice, counters that add up, failures that
say why.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aicert.files.tree import read_tree
from aicert.formats.listing import EMPTY_DIR
from aicert.formats.run_report_facts import (
    COUNTED_EPOCHS,
    COUNTED_ROWS,
    COUNTED_SET,
    COUNTED_STEPS,
)
from enclave_runner.axolotl import config, training
from enclave_runner.axolotl.config import Effective, InputView
from enclave_runner.axolotl.training import Progress, TrainingResult
from enclave_runner.inputs import rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.sandbox.containment import Limits
from enclave_runner.sandbox.places import INPUTS
from rules.example import example
from rules.host import training_env

ROOT = Path(__file__).resolve().parents[3]
KEYS = ROOT / "enclave_runner/axolotl/axolotl_keys.json"
LORA = """
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
lora_mlp_kernel: false
lora_qkv_kernel: false
lora_o_kernel: false
lora_embedding_kernel: false
"""
# A run that others start from, once its config mine/sft.yml has LORA.
ADAPTER_RUN = """
[runs.sft]
config  = "path:mine/sft.yml"
machine = "local"
outputs = ["adapter"]
default = false
[runs.sft.inputs]
model  = "path:examples/tiny-llama"
alpaca = "path:examples/alpaca"
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment() -> Path:
    return training_env.ensure(ROOT)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("inputs")
    example.make_example(root)
    return {"model": root / example.MODEL, "alpaca": root / example.DATA}


def effective(
    inputs: dict[str, Path], more: str = "", change: tuple[tuple[str, str], ...] = ()
) -> Effective:
    views = {
        name: InputView(is_file=False, files=frozenset(path.name for path in folder.iterdir()))
        for name, folder in inputs.items()
    }
    text = (ROOT / "examples" / "tiny-alpaca.yml").read_text() + more
    for old, new in change:
        assert old in text
        text = text.replace(old, new)
    return config.resolve(text.encode(), views)


def seen_of(
    inputs: dict[str, Path], wanted: Effective, folder: Path, environment: Path
) -> dict[str, Path]:
    """Return what the runner would show the trainer of these inputs."""
    folder.mkdir()
    room = rows.Room(folder=folder / "records", training_env=environment, limits=Limits())
    measured = {
        name: MeasuredInput(
            name=name, path=path, digest=EMPTY_DIR, files=read_tree(path), stat_keys={}
        )
        for name, path in inputs.items()
    }
    converted = rows.prepare(wanted.selections, measured, room)
    written = wanted.show_templates(folder / "templates")
    return {f"{INPUTS}/model": inputs["model"], **converted.shown, **written}


def files_of(output: Path) -> dict[str, str]:
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def tensors_of(path: Path) -> int:
    """Return how many numbers a safetensors file contains, according to its header alone."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    return sum(math.prod(shape) for shape in shapes)


def numbers_of(result: TrainingResult) -> tuple[object, ...]:
    """Return what the plugin counted: epochs, rows, rows in the data set, steps."""
    assert {value.origin for value in result.counted.values()} == {"in-trainer"}
    keys = (COUNTED_EPOCHS, COUNTED_ROWS, COUNTED_SET, COUNTED_STEPS)
    return tuple(result.counted[key].data for key in keys)


def train_twice(
    tmp_path: Path, environment: Path, inputs: dict[str, Path], more: str
) -> tuple[TrainingResult, TrainingResult]:
    wanted = effective(inputs, more)
    seen = seen_of(inputs, wanted, tmp_path / "seen", environment)
    first, second = (
        training.train(wanted, seen, tmp_path / name, environment, Limits(threads=threads))
        # The number of threads must not matter either.
        for name, threads in (("first", 1), ("second", 2))
    )
    assert first.exit_code == second.exit_code == "0", first.log.read_text()[-3000:]
    return first, second


def test_a_full_fine_tune_gives_the_same_bytes_twice(
    tmp_path: Path, environment: Path, inputs: dict[str, Path]
) -> None:
    first, second = train_twice(tmp_path, environment, inputs, "")
    files = files_of(first.output)
    assert files == files_of(second.output)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert "debug.log" in first.excluded
    given = hashlib.sha256((inputs["model"] / "model.safetensors").read_bytes()).hexdigest()
    assert files["model.safetensors"] != given
    reported = first.self_reported
    assert reported["losses"] == second.self_reported["losses"]
    assert reported["steps"] == reported["totalSteps"] == 40
    # There are 256 rows in steps of 8.
    assert numbers_of(first) == numbers_of(second) == (1.25, 320, 256, 40)
    assert reported["cpuCapability"] == "AVX2"
    assert reported["parameters"] == tensors_of(first.output / "model.safetensors") == 128_576


# The locked torch computes these on QEMU's emulations of AMD (`max`, EPYC-Milan) and of Intel
# (Haswell), and on a real Intel processor with AVX-512. Square roots are left out: MKL's begin with
# an estimate that each maker's processors round in their own way.
COMPUTED = """\
products 8e353f9a67275c58
attention 556ccf2e7fcb7dd3
functions dcaa7fb32c9e339e
activation 8630fb16f7b9e984
step 5a96752ff6117490
"""
COMPUTES = """\
import hashlib
import torch
from torch.nn import functional

def numbers(*shape):
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
    return (((count * 2654435761) % 65537 - 32768).float() / 16384).reshape(shape)

rows, head, up, heads = numbers(96, 64), numbers(64, 458), numbers(64, 176), numbers(2, 4, 48, 16)
weights = torch.nn.Parameter(numbers(64, 64))
optimizer = torch.optim.AdamW([weights], lr=1e-3, fused=True)
(functional.silu(rows @ weights) @ head).logsumexp(-1).sum().backward()
optimizer.step()
made = {
    "products": [rows @ head, rows.T @ rows, (rows @ up) @ up.T, (rows @ head).T @ rows],
    "attention": [functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)],
    "functions": [rows.exp(), rows.abs().log(), rows.tanh(), rows.softmax(-1)],
    "activation": [functional.gelu(rows)],
    "step": [weights],
}
for name, tensors in made.items():
    whole = b"".join(each.detach().contiguous().numpy().tobytes() for each in tensors)
    print(name, hashlib.sha256(whole).hexdigest()[:16])
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_computed_does_not_depend_on_the_processor(threads: int, environment: Path) -> None:
    done = subprocess.run(
        [training_env.python(environment), "-P", "-c", COMPUTES],
        env=training.environment(Limits(threads=threads)) | {"PYTHONPATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == COMPUTED, done.stderr[-3000:]


def test_a_chat_template_does_not_learn_the_date(environment: Path, tmp_path: Path) -> None:
    """The clock is the host's, and a template such as llama4's writes today's date into
    every row.
    """
    variables = training.environment(Limits())
    variables |= {
        "PYTHONPATH": str(ROOT / "enclave_runner/axolotl/plugin"),
        "HF_HOME": str(tmp_path),
    }
    program = (
        "import aicert_axolotl\n"
        "from transformers.utils.chat_template_utils import render_jinja_template as render\n"
        "rows = [[{'role': 'user', 'content': 'x'}]]\n"
        "print(render(rows, chat_template='{{ strftime_now(\"%d %b %Y %H:%M%z\") }}')[0])\n"
    )
    python = training_env.python(environment)
    done = subprocess.run(
        [python, "-P", "-c", program], env=variables, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["['01 Jan 2025 00:00']"], done.stderr[-3000:]


def test_reported_flops_are_those_of_the_tokens_and_parameters(
    tmp_path: Path, environment: Path, inputs: dict[str, Path]
) -> None:
    # A step of one row is never padded, so the counted tokens are the computed ones.
    change = (("max_steps: 40", "max_steps: 6"), ("micro_batch_size: 8", "micro_batch_size: 1"))
    wanted = effective(inputs, change=change)
    seen = seen_of(inputs, wanted, tmp_path / "seen", environment)
    heard: list[Progress] = []
    result = training.train(wanted, seen, tmp_path / "s", environment, Limits(), heard.append)
    assert result.exit_code == "0"
    reported = result.self_reported
    tokens, flops = reported["tokens"], reported["flops"]
    assert isinstance(tokens, int)
    embeddings = 458 * 64
    assert flops == 6 * tokens * (128_576 - embeddings)
    assert [each.step for each in heard if each.loss is None] == list(range(7))
    assert all(each.total == 6 for each in heard)


def test_lora_gives_the_same_bytes_twice(
    tmp_path: Path, environment: Path, inputs: dict[str, Path]
) -> None:
    first, second = train_twice(tmp_path, environment, inputs, LORA)
    files = files_of(first.output)
    assert files == files_of(second.output)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files.keys()
    trained = first.self_reported["trainableParameters"]
    assert trained == tensors_of(first.output / "adapter_model.safetensors")


def test_plugins_of_axolotl_train_and_change_what_is_trained(
    tmp_path: Path, environment: Path, inputs: dict[str, Path]
) -> None:
    more = """
plugins: [grokfast.GrokfastPlugin, spectrum.SpectrumPlugin, liger.LigerPlugin]
spectrum_model_name: meta-llama/Llama-3.2-1B
liger_rope: true
"""
    wanted = effective(inputs, more, (("max_steps: 40", "max_steps: 2"),))
    seen = seen_of(inputs, wanted, tmp_path / "seen", environment)
    result = training.train(wanted, seen, tmp_path / "s", environment, Limits())
    log = result.log.read_text()
    assert result.exit_code == "0", log[-3000:]
    assert "Adding Grokfast callback" in log
    # Spectrum freezes all other parameters.
    trained, parameters = (
        result.self_reported[name] for name in ("trainableParameters", "parameters")
    )
    assert isinstance(trained, int)
    assert isinstance(parameters, int)
    assert 0 < trained < parameters


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda settings: settings["datasets"][0].update(train_on_last_step_only=True),
            "dropped datasets[0].train_on_last_step_only",
        ),
        (
            lambda settings: settings["plugins"].append("axolotl.integrations.gone.GonePlugin"),
            "could not import axolotl.integrations.gone.GonePlugin",
        ),
    ],
)
def test_what_axolotl_loses_of_a_config_ends_the_training(
    tmp_path: Path,
    environment: Path,
    inputs: dict[str, Path],
    change: Callable[[dict[str, Any]], None],
    reason: str,
) -> None:
    wanted = effective(inputs)
    settings = json.loads(wanted.config)
    change(settings)
    lost = dataclasses.replace(wanted, config=json.dumps(settings).encode("ascii"))
    seen = seen_of(inputs, wanted, tmp_path / "seen", environment)
    result = training.train(lost, seen, tmp_path / "s", environment, Limits())
    assert result.exit_code == "1"
    assert reason in result.log.read_text()


def test_two_processes_share_the_rows_and_give_the_same_bytes_twice(
    tmp_path: Path, environment: Path, inputs: dict[str, Path]
) -> None:
    wanted = effective(inputs, change=(("max_steps: 40", "max_steps: 3"),))
    seen = seen_of(inputs, wanted, tmp_path / "seen", environment)
    first, second = (
        training.train(wanted, seen, tmp_path / name, environment, Limits(), ranks=2)
        for name in ("first", "second")
    )
    assert first.exit_code == second.exit_code == "0", first.log.read_text()[-3000:]
    assert files_of(first.output) == files_of(second.output)
    reported = first.self_reported
    assert reported["losses"] == second.self_reported["losses"]
    # There are 256 rows in steps of 8, for each of two processes.
    assert (reported["steps"], reported["epochs"]) == (3, 3 / 16)
    assert numbers_of(first) == numbers_of(second) == (0.187, 48, 256, 3)


@pytest.mark.parametrize(
    ("change", "limits", "code", "limit"),
    [
        ((("bf16: false", "bf16: true"),), Limits(), "1", None),
        ((), Limits(seconds=1.0), "timeout", "time"),
        ((), Limits(memory_bytes=50 * 2**20), "memory", "memory"),
        ((), Limits(scratch_bytes=2**10), "signal:9", "scratch"),
    ],
)
def test_a_training_that_fails_is_a_result_that_says_so(
    tmp_path: Path,
    environment: Path,
    inputs: dict[str, Path],
    change: tuple[tuple[str, str], ...],
    limits: Limits,
    code: str,
    limit: str | None,
) -> None:
    wanted = effective(inputs, change=change)
    seen = seen_of(inputs, wanted, tmp_path / "seen", environment)
    result = training.train(wanted, seen, tmp_path / "s", environment, limits)
    assert (result.exit_code, result.limit_hit) == (code, limit), result.log.read_text()[-3000:]
    assert not (result.output / "model.safetensors").exists()


def test_the_committed_keys_are_those_of_the_environment(environment: Path) -> None:
    done = subprocess.run(
        [training_env.python(environment), "-P", ROOT / "enclave_runner/axolotl/axolotl_keys.py"],
        capture_output=True, check=True, env={**training.environment(Limits()), "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.stdout == KEYS.read_bytes()


TEXT_IS_REFUSED = """
import json, sys
from axolotl.utils.schemas.config import AxolotlInputConfig
from pydantic import ValidationError
for key in json.load(sys.stdin)["numbers"]:
    try:
        AxolotlInputConfig.model_validate({
            "base_model": "m", "datasets": [{"path": "d"}], "learning_rate": 1e-4, key: "forty",
        })
    except (ValidationError, TypeError):
        continue
    print(key)
"""


def test_axolotl_refuses_text_where_its_keys_take_numbers_only(environment: Path) -> None:
    done = subprocess.run(
        [training_env.python(environment), "-P", "-c", TEXT_IS_REFUSED],
        input=KEYS.read_bytes(), capture_output=True, check=True,
        env={**training.environment(Limits()), "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.stdout == b""


def test_versions_are_told_and_are_the_locked_ones(environment: Path) -> None:
    versions = training.facts(environment, Limits())["versions"]
    assert isinstance(versions, dict)
    assert set(versions) == set(training.PACKAGES)
    lock = (ROOT / "enclave_runner" / "requirements.lock").read_text()
    for name, version in versions.items():
        assert f"\n{name}=={version.partition('+')[0]} " in lock
