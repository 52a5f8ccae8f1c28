"""Train twice on the GPU that is here, and say whether the bytes are equal; prints one JSON object.

    PYTHONPATH=. python -P tests/gpu/train_twice.py --out FOLDER [--training-env ENVIRONMENT]

With the locked environment it is the runner's own path: Axolotl in the sandbox, with the GPU's
devices; and once more twice with Liger's kernels, if it is that of the GPU image. Without,
the torch and the Transformers of this Python train with the runner's variables
and seeds, which the answer says (`path`). Weights that differ are traced to the first module whose
output or gradient differs between two passes from one seed. `overhead` compares a step with one
without those variables and seeds. Carries no weights: the model is the example's, made here.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The first steps allocate memory and load kernels: `stepSeconds` is the median of the rest.
STEPS, WARM_UP = 40, 10
ROWS, LENGTH = 8, 128
QUERY = "name,driver_version,vbios_version"
# All of Llama's parts for which Liger has kernels.
LIGER = b"""
plugins: [liger.LigerPlugin]
liger_rope: true
liger_rms_norm: true
liger_glu_activation: true
liger_fused_linear_cross_entropy: true
"""


def gpu_facts(printed: str) -> dict[str, str]:
    """Parse what `nvidia-smi --query-gpu=name,driver_version,vbios_version` printed of one GPU."""
    lines = printed.strip().splitlines()
    parts = [part.strip() for part in lines[0].split(",")] if lines else []
    return dict(zip(QUERY.split(","), parts, strict=False))


def asked_gpu() -> dict[str, str]:
    """Return facts about this computer's GPU; empty without one."""
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return {}
    return gpu_facts(done.stdout) if done.returncode == 0 else {}


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder`."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return names whose values differ or that only one has, in the order of the first."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def main() -> int:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--training-env", type=Path)
    # One step of `_own_path`, in a separate process: torch reads its variables on import.
    parser.add_argument("--pass-number", type=int)
    parser.add_argument("--bare", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.pass_number is not None:
        print(json.dumps(_pass(arguments.out, arguments.pass_number, bare=arguments.bare)))
        return 0
    result: dict[str, Any] = {"gpu": asked_gpu()}
    if arguments.training_env is not None:
        result |= _runners_path(arguments.out, arguments.training_env)
    else:
        result |= _own_path(arguments.out)
    text = json.dumps(result, indent=1, sort_keys=True)
    (arguments.out / "gpu.json").write_text(text + "\n", encoding="ascii")
    print(text)
    return 0 if result["equal"] else 1


def _runners_path(out: Path, training_env: Path) -> dict[str, Any]:
    """Train the example twice, as the runner does."""
    from aicert.files.tree import read_tree
    from aicert.formats.listing import EMPTY_DIR
    from enclave_runner.axolotl import config, training
    from enclave_runner.axolotl.config import InputView
    from enclave_runner.inputs import rows
    from enclave_runner.inputs.measure import MeasuredInput
    from enclave_runner.sandbox.containment import Limits
    from enclave_runner.sandbox.places import INPUTS
    from rules.example import example

    example.make_example(out / "inputs")
    inputs = {"model": out / "inputs" / example.MODEL, "alpaca": out / "inputs" / example.DATA}
    measured = {
        name: MeasuredInput(
            name=name, path=path, digest=EMPTY_DIR, files=read_tree(path), stat_keys={}
        )
        for name, path in inputs.items()
    }
    views = {
        name: InputView(is_file=False, files=frozenset(item.files))
        for name, item in measured.items()
    }
    text = Path("examples/tiny-alpaca.yml").read_bytes().replace(b"bf16: false", b"bf16: true")
    effective = config.resolve(text, views)
    room = rows.Room(folder=out / "records", training_env=training_env, limits=Limits())
    read = rows.prepare(effective.selections, measured, room)
    shown = {f"{INPUTS}/model": inputs["model"], **read.shown}
    nodes = sorted(path for path in Path("/dev").glob("nvidia*") if path.is_char_device())

    def twice(name: str, effective: config.Effective) -> dict[str, Any]:
        results = [
            training.train(
                effective, shown, out / f"{name}-{number}", training_env, Limits(), gpus=nodes
            )
            for number in (1, 2)
        ]
        for result in results:
            if result.exit_code != "0":
                sys.exit(result.log.read_text(errors="replace")[-3000:])
        differ = differing(*(digests(result.output) for result in results))
        return {
            "equal": not differ,
            "differ": differ,
            "seconds": [result.self_reported.get("trainSeconds") for result in results],
            "device": results[0].self_reported.get("device"),
        }

    result = {"path": "the runner's own: Axolotl in the sandbox", **twice("scratch", effective)}
    if nodes and training.has_kernels(training_env):
        result["liger"] = twice("liger", config.resolve(text + LIGER, views, kernels=True))
        result["equal"] = result["equal"] and result["liger"]["equal"]
    return result


def _own_path(out: Path) -> dict[str, Any]:
    """Use this Python's torch and Transformers, with the runner's variables and seeds."""
    first, second = (_started(out, number) for number in (1, 2))
    bare = _started(out, 3, bare=True)
    weights = differing(first["weights"], second["weights"])
    modules = differing(first["modules"], second["modules"])
    return {
        "path": f"no locked environment: {first['versions']}, the runner's variables and seeds",
        "equal": not weights,
        "differ": weights,
        # In the order of computation: later modules inherit the first one's differences.
        "firstDiffering": modules[0] if modules else None,
        "stepSeconds": [first["stepSeconds"], second["stepSeconds"]],
        "bareStepSeconds": bare["stepSeconds"],
        "overhead": round(
            min(first["stepSeconds"], second["stepSeconds"]) / bare["stepSeconds"] - 1, 3
        ),
        "device": first["device"],
    }


def _started(out: Path, number: int, *, bare: bool = False) -> dict[str, Any]:
    from enclave_runner.axolotl import training
    from enclave_runner.sandbox.containment import Limits

    home = out / f"home-{number}"
    home.mkdir()
    places = {"PATH", "PYTHONPATH", "HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME"}
    variables = {
        name: value for name, value in training.environment(Limits()).items() if name not in places
    }
    # On a machine with GPUs the runner does not hide them.
    variables.pop("CUDA_VISIBLE_DEVICES")
    kept = {name: value for name, value in os.environ.items() if name not in variables}
    words = [sys.executable, "-P", __file__, "--out", str(out), "--pass-number", str(number)]
    done = subprocess.run(
        [*words, *(["--bare"] if bare else [])],
        env=kept | ({} if bare else variables) | {"HOME": str(home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _pass(out: Path, number: int, *, bare: bool) -> dict[str, Any]:
    """Train a small Llama for some steps with Transformers' Trainer.

    Return digests of the weights and of one pass.
    """
    import torch
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    if not bare:
        transformers.set_seed(42)
    torch.manual_seed(42)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
        )
    )
    counted = torch.arange(ROWS * STEPS * LENGTH).reshape(-1, LENGTH)
    data = [{"input_ids": row, "labels": row} for row in (counted * 2654435761) % 512]
    settings = TrainingArguments(
        output_dir=str(out / f"trainer-{number}"), max_steps=STEPS, seed=42,
        per_device_train_batch_size=ROWS, bf16=torch.cuda.is_available(), report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True, optim="adamw_torch_fused",
    )  # fmt: skip
    ended: list[float] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]  # it is not there to mypy
        """A callback that records when each step ended on the GPU."""

        def on_step_end(self, *_given: Any, **_named: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ended.append(time.monotonic())

    trainer = Trainer(model=model, args=settings, train_dataset=data, callbacks=[Clock()])
    modules = _traced(trainer.model, data[0]["input_ids"])
    trainer.train()
    steps = [after - before for before, after in itertools.pairwise(ended[WARM_UP:])]
    state = {name: _digest(value) for name, value in trainer.model.state_dict().items()}
    return {
        "weights": state,
        "modules": modules,
        "stepSeconds": round(statistics.median(steps), 5),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "device": str(settings.device),
    }


def _traced(model: Any, row: Any) -> dict[str, str]:
    """Return digests of each module's output in one pass, then of each parameter's gradient."""
    by_part: dict[str, str] = {}

    def follow(name: str) -> Any:
        def hook(_module: Any, _given: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if hasattr(first, "detach"):
                by_part[f"output of {name}"] = _digest(first)

        return hook

    handles = [
        module.register_forward_hook(follow(name)) for name, module in model.named_modules() if name
    ]
    device = next(model.parameters()).device
    inputs = row.unsqueeze(0).to(device)
    model(input_ids=inputs, labels=inputs).loss.backward()
    for handle in handles:
        handle.remove()
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None:
            by_part[f"gradient of {name}"] = _digest(parameter.grad)
    model.zero_grad()
    return by_part


def _digest(tensor: Any) -> str:
    data = tensor.detach().cpu().contiguous().float().numpy().tobytes()
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
