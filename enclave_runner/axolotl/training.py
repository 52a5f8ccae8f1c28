"""Run Axolotl, the trainer, in a sandbox; this module fixes everything that it gets (ADR 2).

`train` takes inputs and an effective config and returns outputs and facts; a trainer that fails is
a result, not an error. What the plugin reports about steps, tokens and losses comes from inside the
sandbox: it is read as hostile (sizes, types, finite numbers) and stays self-reported, except the
rows that the plugin counts itself (`counted`). Left out: hashing, which the caller does after
`train` has returned, when no process of the run is left.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import AicertError, ToolError
from aicert.files.tree import read_tree
from aicert.formats import strict_json
from aicert.formats.digest import FileFact
from aicert.formats.run_report import Value
from enclave_runner.axolotl.config import Effective
from enclave_runner.axolotl.pace import Pace
from enclave_runner.axolotl.row_counts import Counted
from enclave_runner.sandbox import containment
from enclave_runner.sandbox.containment import Limits, Sandbox
from enclave_runner.sandbox.interpreter import PYTHON, interpreter
from enclave_runner.sandbox.pipes import MAX_MESSAGE
from enclave_runner.sandbox.places import CODE, CONFIG, ENVIRONMENT, OUTPUT, PLUGIN, SCRATCH, TOOLS

COMMAND = (
    PYTHON, "-P", "-m", "axolotl.cli.main", "train", CONFIG,
    "--launcher", "python",
)  # fmt: skip
# The processes of torchrun meet on the sandbox's own loopback, where nothing else runs, so that any
# port is free.
_TORCHRUN = (
    "-m", "torch.distributed.run", "--nnodes=1", "--rdzv-backend=static",
    "--master-addr=127.0.0.1", "--master-port=29500",
)  # fmt: skip
# Without the first variable, processes without GPUs would each train alone, on all rows.
_TOGETHER = {
    "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo",
}  # fmt: skip
_TRAINER = ("-m", "axolotl.cli.train", CONFIG)
PACKAGES = (
    "accelerate", "axolotl", "datasets", "numpy", "peft", "safetensors", "tokenizers", "torch",
    "transformers", "trl",
)  # fmt: skip

_PACKAGES = Path("lib/python3.11/site-packages")
# image/kernels compiles this library; only the GPU image has it.
_TO_DRIVER = Path("triton/backends/nvidia/cuda_utils.cpython-311-x86_64-linux-gnu.so")

# 2025-01-01, for anything that writes the date into texts that are trained on (see the plugin): the
# host sets the machine's clock, and must not decide what is trained on.
DATE = 1735689600

# Files that a trainer writes into its output directory and that are no part of the model: they hold
# times, process numbers, pickles, measurements. Everything else there is output and is the same,
# byte for byte, in every run. README.md is the trainer's model card, which its owner will edit.
EXCLUDED_FILES = frozenset(
    (
        "README.md",
        "debug.log",
        "profiler_trace.json",
        "snapshot.pickle",
        "tokens_state.json",
        "training_args.bin",
    )
)
EXCLUDED_DIRECTORIES = re.compile(r"checkpoint-.*|runs")

# In words, the reasons for which the audit hook ends a training (`plugin/aicert_guard.py`).
VIOLATIONS = {
    "code": "it compiled or executed code in a place where training never does",
    "file": "it opened a file for writing outside its scratch directory",
    "library": "it loaded a library from outside the image",
    "loader": "a loader opened a file that a row or a setting names",
    "process": "it started another program",
    "socket": "it opened a socket",
    "interpreter": "it started an interpreter in a way that no training does",
    "hook": "the audit hook itself failed",
}

_MAX_LOSSES = 2100
# The most measurements of an evaluation, which have the names that Transformers' Trainer gives.
_MAX_METRICS = 64
_METRIC = re.compile(r"eval_[A-Za-z0-9_/.-]{1,55}", re.ASCII)
_MAX_COUNT = 2**53
_COUNTS = ("steps", "totalSteps", "tokens", "flops", "parameters", "trainableParameters", "threads")
_NUMBERS = ("epochs", "trainSeconds")
_TEXTS = ("torch", "cpuCapability", "device")


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """One step of training, as the plugin reports it."""

    step: int
    total: int
    loss: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """The result of a training.

    `exit_code`: CODE of docs/spec/measurement.md; unless it is `0`, nothing in `output` counts.
    `self_reported`: values from the plugin, checked for type and size; may be empty. `facts`: the
    runner's own, namely versions by the environment's files, and settings that it passed.
    `counted`: rows that the plugin counted itself. `pace`: (step, seconds) on the runner's clock.
    """

    exit_code: str
    limit_hit: str | None
    wall_seconds: float
    cpu_seconds: float
    max_rss: int
    log: Path
    log_truncated: bool
    output: Path
    excluded: tuple[str, ...]
    self_reported: Mapping[str, object]
    counted: Mapping[str, Value]
    pace: Sequence[tuple[int, float]]
    facts: Mapping[str, object]


def train(
    effective: Effective,
    shown: Mapping[str, Path],
    scratch: Path,
    training_env: Path,
    limits: Limits,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    ranks: int = 1,
    user: int | None = None,
    gpus: Sequence[Path] = (),
) -> TrainingResult:
    """Train in `scratch`, which must be empty or absent; the log is written beside it.

    `shown`: what the trainer sees of the inputs, place → file or folder. `ranks`: how many
    processes train together, each with its share of the rows. `user`: see containment.Sandbox.
    `gpus`: nodes of GPUs to train on. Raises ToolError if training could not even start; a training
    that fails is a result.
    """
    containment.check(user)
    make_scratch(scratch, user)
    config = scratch.with_name(scratch.name + "-config.json")
    config.write_bytes(effective.config)
    variables = environment(limits, ranks)
    if gpus:
        del variables["CUDA_VISIBLE_DEVICES"]
        variables.pop("ACCELERATE_USE_CPU", None)
    sandbox = Sandbox(
        read_only={**_environment_shown(training_env), CONFIG: config, **_resolved(shown)},
        devices=tuple(gpus),
        scratch=scratch,
        environment=variables,
        directory=f"{SCRATCH}/home",
        user=user,
    )
    return _run(command(ranks), sandbox, training_env, limits, _Reader(on_progress, ranks), ranks)


def work(
    words: Sequence[str],
    shown: Mapping[str, Path],
    scratch: Path,
    training_env: Path,
    limits: Limits,
    *,
    user: int | None = None,
    gpus: Sequence[Path] = (),
    tools: Path | None = None,
) -> TrainingResult:
    """Run another of our programs in the trainer's environment, as `train` runs the trainer.

    It runs as one process. `shown` must include the program's code, below CODE. `tools`: a folder
    of packages that come before the environment's.
    """
    containment.check(user)
    make_scratch(scratch, user)
    variables = {**environment(limits), "PYTHONPATH": f"{PLUGIN}:{CODE}:{TOOLS}"}
    if gpus:
        del variables["CUDA_VISIBLE_DEVICES"]
    overlay = {} if tools is None else {TOOLS: tools}
    sandbox = Sandbox(
        read_only={**_environment_shown(training_env), **_resolved({**shown, **overlay})},
        devices=tuple(gpus),
        scratch=scratch,
        environment=variables,
        directory=f"{SCRATCH}/home",
        user=user,
    )
    return _run(words, sandbox, training_env, limits, _Reader(None), 1, tools)


def _run(
    words: Sequence[str],
    sandbox: Sandbox,
    training_env: Path,
    limits: Limits,
    reader: _Reader,
    ranks: int,
    tools: Path | None = None,
) -> TrainingResult:
    scratch = sandbox.scratch
    log = scratch.with_name(scratch.name + "-training.log")
    ended = containment.run(words, sandbox, limits, log, reader.take)
    output = scratch / Path(OUTPUT).relative_to(SCRATCH)
    return TrainingResult(
        exit_code=ended.exit_code,
        limit_hit=ended.limit_hit,
        wall_seconds=ended.wall_seconds,
        cpu_seconds=ended.cpu_seconds,
        max_rss=ended.max_rss,
        log=log,
        log_truncated=ended.log_truncated,
        output=output,
        excluded=prune(output),
        self_reported=reader.counters,
        counted=reader.counted.values(),
        pace=reader.pace.points,
        facts=facts(training_env, limits, ranks, tools),
    )


def collect(result: TrainingResult, target: Path) -> dict[str, FileFact]:
    """Move the output to `target`, hash it there, and return its files.

    A failed training has no output; neither has one that put a link in place of its output, which
    would lead out of the sandbox.
    """
    output = result.output
    if result.exit_code != "0" or output.is_symlink() or not output.is_dir():
        return {}
    if not any(output.iterdir()):
        return {}
    target.parent.mkdir(parents=True, exist_ok=True)
    output.rename(target)
    files = read_tree(target)
    # Trainers write weights that only their own user can read, but anybody may check a result.
    for folder, _, names in os.walk(target):
        os.chmod(folder, 0o755)  # noqa: S103  # a published model is for everybody to read
        for name in names:
            os.chmod(os.path.join(folder, name), 0o644)
    return files


def command(ranks: int) -> tuple[str, ...]:
    """Return the command that trains in `ranks` processes."""
    if ranks == 1:
        return COMMAND
    return (PYTHON, "-P", *_TORCHRUN, f"--nproc-per-node={ranks}", *_TRAINER)


def environment(limits: Limits, ranks: int = 1) -> dict[str, str]:
    """Return all variables of the trainer's environment; it inherits none."""
    home = f"{SCRATCH}/home"
    threads = str(max(1, limits.threads // ranks))
    together = _TOGETHER if ranks > 1 else {}
    # Each process that only prepares rows would first import everything that the trainer has
    # imported.
    workers = threads if limits.threads > 1 else "0"
    return together | {
        # Nothing asks a hub, and nothing reports to anybody.
        "AXOLOTL_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        # These make the bytes the same in every run, and on every processor.
        "ATEN_CPU_CAPABILITY": "avx2",
        "AXOLOTL_DATASET_NUM_PROC": workers,
        # Otherwise MKL and oneDNN choose code by maker and instruction set, and products differ.
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        # On Intel's processors MKL's products depend on the number of threads, which the machine
        # decides and not the lockfile. The rest of torch keeps all threads.
        "MKL_DOMAIN_NUM_THREADS": "MKL_DOMAIN_BLAS=1",
        "CUDA_VISIBLE_DEVICES": "",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": threads,
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(DATE),
        "TOKENIZERS_PARALLELISM": "false",
        "TZ": "UTC",
        # Code comes from the environment and the plugin, never from what a run wrote.
        "PATH": f"{ENVIRONMENT}/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": PLUGIN,
        "PYTHONSAFEPATH": "1",
        "HF_HOME": f"{home}/huggingface",
        # It keeps no copies of vocabularies, which it would find again by their paths alone.
        "TIKTOKEN_CACHE_DIR": "",
        "HOME": home,
        "LOGNAME": "trainer",
        "TMPDIR": f"{SCRATCH}/tmp",  # noqa: S108 - in the sandbox
        "USER": "trainer",
        "XDG_CACHE_HOME": f"{home}/cache",
        "COLUMNS": "120",
        "PYTHONUNBUFFERED": "1",
        "TQDM_DISABLE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }


def has_kernels(training_env: Path) -> bool:
    """Return whether Triton can compile and start kernels there (docs/adr/0043-kernels.md)."""
    return (training_env / _PACKAGES / _TO_DRIVER).is_file()


def facts(
    training_env: Path, limits: Limits, ranks: int = 1, tools: Path | None = None
) -> dict[str, object]:
    """Return what the runner knows about the training environment without running it."""
    variables = environment(limits, ranks)
    repeatable = (
        "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_DOMAIN_NUM_THREADS", "OMP_NUM_THREADS",
        "ONEDNN_MAX_CPU_ISA", "PYTHONHASHSEED", "SOURCE_DATE_EPOCH",
    )  # fmt: skip
    return {
        "versions": _versions(training_env, tools),
        "settings": {name: variables[name] for name in repeatable},
    }


def prune(output: Path) -> tuple[str, ...]:
    """Remove files that never count as output, and empty directories.

    Returns the removed paths, sorted, except those of empty directories.
    """
    removed: list[str] = []
    if not output.is_dir() or output.is_symlink():
        return ()
    for entry in sorted(output.iterdir()):
        link = entry.is_symlink()
        folder = entry.is_dir() and not link
        if folder and EXCLUDED_DIRECTORIES.fullmatch(entry.name):
            shutil.rmtree(entry)
            removed.append(entry.name + "/")
        elif not folder and entry.name in EXCLUDED_FILES:
            entry.unlink()
            removed.append(entry.name)
    for directory, _, _ in os.walk(output, topdown=False):
        if directory != str(output) and not os.listdir(directory):
            os.rmdir(directory)
    return tuple(removed)


def make_scratch(scratch: Path, user: int | None) -> None:
    """Make a scratch with the folders that `environment` names, for `user` to write to.

    Raises ToolError if it exists and is not empty.
    """
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(scratch.iterdir()):
        raise ToolError(f"{scratch} is not empty: a run starts from nothing")
    for name in ("output", "prepared", "tmp", "home"):
        (scratch / name).mkdir(mode=0o700)
    if user is not None:
        for folder in (scratch, *scratch.iterdir()):
            os.chown(folder, user, user)


def _environment_shown(training_env: Path) -> dict[str, Path]:
    return {**interpreter(training_env), PLUGIN: Path(__file__).with_name("plugin")}


def _resolved(shown: Mapping[str, Path]) -> dict[str, Path]:
    return {place: path.resolve() for place, path in shown.items()}


def _versions(training_env: Path, tools: Path | None) -> dict[str, str]:
    """Return the versions of known packages, and of the tool that has a folder of its own."""
    versions: dict[str, str] = {}
    known = set(PACKAGES)
    entries = [*(training_env / _PACKAGES).glob("*.dist-info")]
    if tools is not None:
        known.add(tools.name.replace("-", "_"))
        entries += tools.glob("*.dist-info")
    for entry in entries:
        name, _, version = entry.name.removesuffix(".dist-info").partition("-")
        if name in known:
            first, *rest = name.split("_")
            versions[first + "".join(word.title() for word in rest)] = version
    return dict(sorted(versions.items()))


class _Reader:
    """Reads the plugin's lines as hostile."""

    def __init__(self, on_progress: Callable[[Progress], None] | None, ranks: int = 1) -> None:
        self._on_progress = on_progress
        self.counted = Counted(ranks)
        self.counters: dict[str, object] = {}
        self.pace = Pace()

    def take(self, line: bytes) -> None:
        try:
            message = strict_json.loads(line, what="progress", max_bytes=MAX_MESSAGE)
        except AicertError:
            return
        if not isinstance(message, dict):
            return
        violation = message.get("violation")
        if isinstance(violation, str) and violation in VIOLATIONS:
            self.counters["violation"] = VIOLATIONS[violation]
            raise containment.StopRun
        counters = message.get("counters")
        if isinstance(counters, dict):
            self.counters = _checked(counters)
        self.counted.take(message.get("counted"))
        step, total = _count(message.get("step")), _count(message.get("total"))
        if step is None or total is None:
            return
        self.pace.hear(step)
        if self._on_progress is not None:
            loss = _number(message.get("loss"))
            self._on_progress(Progress(step=step, total=total, loss=loss))


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_COUNT else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and abs(value) <= _MAX_COUNT else None


def _checked(reported: Mapping[str, object]) -> dict[str, object]:
    """Return the values in `reported` that have the right name, type and size."""
    kept: dict[str, object] = {}
    for name in _COUNTS:
        count = _count(reported.get(name))
        if count is not None:
            kept[name] = count
    for name in _NUMBERS:
        number = _number(reported.get(name))
        if number is not None:
            kept[name] = number
    for name in _TEXTS:
        text = reported.get(name)
        if isinstance(text, str) and len(text) <= 64 and text.isascii() and text.isprintable():
            kept[name] = text
    for name in ("losses", "evalLosses"):
        losses = reported.get(name)
        if isinstance(losses, list) and len(losses) <= _MAX_LOSSES:
            pairs = [_loss(each) for each in losses]
            if all(pair is not None for pair in pairs):
                kept[name] = pairs
    metrics = reported.get("metrics")
    if isinstance(metrics, dict) and len(metrics) <= _MAX_METRICS:
        numbers = {key: _number(value) for key, value in metrics.items() if _METRIC.fullmatch(key)}
        kept["metrics"] = {key: number for key, number in numbers.items() if number is not None}
    return kept


def _loss(value: object) -> list[object] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    step, loss = _count(value[0]), _number(value[1])
    return None if step is None or loss is None else [step, loss]
