"""Measure the mean loss per token on a sample of a training's rows, before and after it.

`measure` runs when no process of the trainer is left. The runner draws the rows, with a seed that
nobody could know before (`loss_sample`). A child in its own sandbox, without TPM and network, sees
these rows, the model inputs and the output's safetensors files, and nothing else that the trainer
wrote. It runs this image's code (`measuring`), but its libraries parse files that anybody may have
written. So the one line that it writes is read as hostile, and anything that is not a measurement
makes the state `incomplete`.
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.run_report_facts import MAX_REASON, Loss
from aicert.formats.strict_json import Fields
from enclave_runner.axolotl import kinds, loss_sample, training
from enclave_runner.sandbox import containment
from enclave_runner.sandbox.containment import Limits, Sandbox
from enclave_runner.sandbox.interpreter import PYTHON, interpreter
from enclave_runner.sandbox.places import (
    CODE,
    CONFIG,
    JOB,
    PLUGIN,
    RECORDS,
    SAMPLE,
    SCRATCH,
    TRAINED,
)

COMMAND = (PYTHON, "-P", "-m", "enclave_runner.axolotl.measuring")
# The child caps losses: a token whose loss is larger, or not a number, counts this much.
MOST_LOSS = 100.0
# Rows are measured for this many seconds, or for this part of the training's time if that is more.
# Imports and loading take extra time, which does not depend on the number of rows.
SECONDS = 20.0
PART = 0.01
# A bound only for a child that hangs; an emulated machine may be a hundred times slower.
_LONGEST = 3600.0
_MAX_BYTES = 64 * 1024
_NO_REWARD = "rewards have no loss per token"
# The kinds of training that have no loss per token on their rows, by the config's key.
_WITHOUT = {
    "process_reward_model": f"a process reward model: {_NO_REWARD}",
    "reward_model": f"a reward model: {_NO_REWARD}",
}
_WITHOUT_RL = frozenset(("ebft", "gdpo", "grpo"))
# With one of these keys, the trainer's own losses are not a mean loss per token over all rows: they
# include noise, for example, or only the end of the last rows.
_OTHER_LOSS = ("rl", "use_eaft", "neftune_noise_alpha", "curriculum_sampling")
# These keys speed up training or spread it over devices; a measurement does neither.
_LEFT_OUT = (
    "activation_offloading", "ddp", "deepspeed", "fsdp", "fsdp_config", "fsdp_version",
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "selective_checkpointing",
    "torch_compile",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A measured loss, and the CPU seconds of the child (0 if no child was needed)."""

    loss: Loss
    cpu_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """The folder, environment and limits for measuring.

    `folder`: absent or empty. For `user` and `gpus` see `training.train`.
    """

    folder: Path
    training_env: Path
    limits: Limits
    user: int | None = None
    gpus: Sequence[Path] = ()


def measure(
    config: bytes,
    shown: Mapping[str, Path],
    output: Mapping[str, Path],
    room: Room,
    *,
    seed: bytes,
    trained_seconds: float,
) -> Measured:
    """Measure the losses of a training that ended with 0.

    `config`: the effective config. `shown`: what the trainer saw, place → file or folder.
    `output`: the files that it left, path → file.
    """
    settings = json.loads(config)
    reason = without_loss(settings)
    if reason is not None:
        return Measured(loss=Loss(state="no-loss", reason=reason))
    room.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not _write_sample(room.folder / "sample.jsonl", settings, shown, seed):
        return Measured(loss=_incomplete("there are no rows to measure"))
    files = {
        "config.json": {key: value for key, value in settings.items() if key not in _LEFT_OUT},
        "job.json": {"config": CONFIG, "seconds": seconds_for(trained_seconds)},
    }
    for name, content in files.items():
        (room.folder / name).write_bytes(strict_json.dumps(content))
    scratch = room.folder / "scratch"
    training.make_scratch(scratch, room.user)
    lines: list[bytes] = []
    ended = containment.run(
        COMMAND,
        _sandbox(shown, output, room, scratch),
        _limits(room.limits, trained_seconds),
        room.folder / "loss.log",
        lines.append,
    )
    return Measured(
        loss=read_result(lines, ended.exit_code, comparable=comparable(settings)),
        cpu_seconds=ended.cpu_seconds,
    )


def without_loss(settings: Mapping[str, object]) -> str | None:
    """Say why the rows of such a training have no loss per token; None if they have one."""
    for key, reason in _WITHOUT.items():
        if settings.get(key):
            return reason
    if settings.get("rl") in _WITHOUT_RL:
        return f"rl: {settings['rl']}: it trains on generated text, which is not in the rows"
    return None


def comparable(settings: Mapping[str, object]) -> bool:
    """Return whether the trainer's own losses are mean losses per token too."""
    other = any(settings.get(key) for key in _OTHER_LOSS)
    return not other and not kinds.is_diffusion(settings)


def seconds_for(trained_seconds: float) -> float:
    """Return for how many seconds to measure rows."""
    return max(SECONDS, PART * trained_seconds)


def read_result(lines: Sequence[bytes], exit_code: str, *, comparable: bool) -> Loss:
    """Read the child's answer as hostile; without a measurement, the loss has a reason instead."""
    if exit_code != "0" or len(lines) != 1:
        return _incomplete(f"the process that measures the loss ended with {exit_code}")
    try:
        fields = Fields(
            strict_json.loads(lines[0], what="measured loss", max_bytes=_MAX_BYTES), "loss"
        )
        if fields.has("incomplete"):
            reason = fields.text("incomplete", max_length=_MAX_BYTES)
            fields.done()
            return _incomplete(reason)
        loss = Loss(
            state="measured",
            before=_number(fields, "before"),
            after=_number(fields, "after"),
            comparable=comparable,
            rows=fields.integer("rows", low=1),
            tokens=fields.integer("tokens", low=1),
            template_tokens=fields.integer("templateTokens"),
        )
        fields.done()
    except EvidenceError as error:
        return _incomplete(
            f"the process that measures the loss gave an impossible answer: {error.message}"
        )
    if loss.rows > loss_sample.MOST_ROWS or loss.template_tokens > loss.tokens:
        return _incomplete("the process that measures the loss counts more rows than there are")
    return loss


def _number(fields: Fields, key: str) -> float:
    number = fields.number(key)
    if not (math.isfinite(number) and 0 <= number <= MOST_LOSS):
        raise EvidenceError(f"{key} is not between 0 and {MOST_LOSS:.0f}")
    return float(number)


def _incomplete(reason: str) -> Loss:
    plain = "".join(each if each in _SHOWN else " " for each in reason)
    return Loss(state="incomplete", reason=" ".join(plain.split())[:MAX_REASON] or "no reason")


_SHOWN = frozenset(string.ascii_letters + string.digits + string.punctuation + " ")


def _write_sample(
    path: Path, settings: Mapping[str, object], shown: Mapping[str, Path], seed: bytes
) -> int:
    rows = 0
    with path.open("wb") as file:
        for line in loss_sample.draw(loss_sample.sources(settings, shown), seed):
            file.write(line)
            rows += 1
    return rows


def _limits(limits: Limits, trained_seconds: float) -> Limits:
    return Limits(
        seconds=max(_LONGEST, trained_seconds),
        memory_bytes=limits.memory_bytes,
        processes=limits.processes,
        scratch_bytes=limits.scratch_bytes,
        threads=limits.threads,
    )


def _sandbox(
    shown: Mapping[str, Path], output: Mapping[str, Path], room: Room, scratch: Path
) -> Sandbox:
    environment = training.environment(room.limits)
    environment["PYTHONPATH"] = f"{PLUGIN}:{CODE}"
    if room.gpus:
        del environment["CUDA_VISIBLE_DEVICES"]
    here = Path(__file__).parent
    return Sandbox(
        read_only={
            **interpreter(room.training_env),
            PLUGIN: here / "plugin",
            f"{CODE}/enclave_runner/axolotl/measuring": here / "measuring",
            CONFIG: room.folder / "config.json",
            JOB: room.folder / "job.json",
            SAMPLE: room.folder / "sample.jsonl",
            **{f"{TRAINED}/{name}": output[name] for name in weights(output)},
            **{at: path for at, path in shown.items() if not at.startswith(RECORDS + "/")},
        },
        devices=tuple(room.gpus),
        scratch=scratch,
        environment=environment,
        directory=f"{SCRATCH}/home",
        user=room.user,
    )


def weights(output: Iterable[str]) -> list[str]:
    """Return the output's weight files, except those in subfolders, which loaders do not read."""
    return sorted(path for path in output if path.endswith(".safetensors") and "/" not in path)
