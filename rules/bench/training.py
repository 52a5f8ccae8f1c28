"""The cost of certifying a training: CPU time of the trainer, of reading rows and of measuring the
loss through certify, and of the trainer by hand, in pairs.

The run is the shipped one with more steps, in a copy of this checkout. "By hand" is the command
that a user would type: the same Axolotl and config, with the variables that decide how it computes,
but without sandbox, plugin or measurement; it reads the data set itself. The two trainings of a
pair run at the same time, each on its own processor: if a machine slows down for minutes, as rented
ones do, it slows both. Run one after the other, pairs of the same code differed by a tenth.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from aicert.errors import ConfigError, ToolError
from aicert.formats.run_report import RunReport
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from aicert.verifier.verify import read_certificate
from rules.host import training_env
from rules.host.bootstrap import cache_directory
from rules.host.progress import task

RUN = "bench"
# Long enough (about five minutes) that most of the time is training, not the imports before it or
# the measurement after it.
STEPS = 3000
PAIRS = 3
COPIED = ("aicert", "rules", "enclave_runner", "examples", "dodo.py", "pyproject.toml")
PROJECT = """\
[runs.bench]
config = "path:bench.yml"
machine = "local"
outputs = ["model"]
[runs.bench.inputs]
model = "path:examples/tiny-llama"
alpaca = "path:examples/alpaca"
[machines.local]
driver = "local"
memory = "8 GiB"
scratch = "4 GiB"
time-limit = "2 h"
"""
# The runner sets the same variables: threads and vector width decide the speed.
COMPUTES = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_DOMAIN_NUM_THREADS": "MKL_DOMAIN_BLAS=1",
    "AXOLOTL_DATASET_NUM_PROC": "0",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """CPU seconds of one training each way; through certify also those for reading the rows and for
    measuring the loss.
    """

    training: float
    reading: float
    measuring: float
    by_hand: float

    @property
    def certified(self) -> float:
        return self.training + self.reading + self.measuring


def pairs(folder: Path) -> list[Pair]:
    """Train PAIRS times each way in `folder`, which is empty and on the repository's disk."""
    if len(os.sched_getaffinity(0)) < 2:
        raise ConfigError("this benchmark needs two processors: it trains twice at the same time")
    checkout = folder / "checkout"
    config = lay_out(checkout, STEPS)
    taken: list[Pair] = []
    with task("training pairs", total=PAIRS, unit="pairs") as bar:
        for number in range(PAIRS):
            with ThreadPoolExecutor() as pool:
                beside = pool.submit(_by_hand, checkout, config, folder)
                training, reading, measuring = _certified(checkout)
                by_hand = beside.result()
            pair = Pair(training=training, reading=reading, measuring=measuring, by_hand=by_hand)
            taken.append(pair)
            bar.update(done=number + 1, note=f"ratio {pair.certified / pair.by_hand:.3f}")
    return taken


def lay_out(checkout: Path, steps: int) -> dict[str, object]:
    """Make a checkout with only this run, of `steps` steps, locked. Returns its config."""
    copy_checkout(checkout)
    config: dict[str, object] = yaml.safe_load(Path("examples/tiny-alpaca.yml").read_bytes())
    config |= {"max_steps": steps, "num_epochs": 1000, "logging_steps": 50}
    (checkout / "bench.yml").write_text(yaml.safe_dump(config))
    (checkout / "aicert.toml").write_text(PROJECT)
    doit(checkout, "lock")
    return config


def copy_checkout(checkout: Path) -> None:
    """Copy what a run needs from this checkout to a new folder."""
    checkout.mkdir()
    for name in COPIED:
        source = Path(name)
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, checkout / name)


def doit(checkout: Path, *arguments: str, module: str = "rules") -> None:
    """Run `./doit ARGUMENTS` in `checkout`, or another `module` in its place. Raises ToolError if
    it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=checkout,
        env=os.environ | {"AICERT_CACHE": str(cache_directory())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ToolError(f"./doit {arguments[0]} failed\n{done.stderr[-2000:]}")


def _certified(checkout: Path) -> tuple[float, float, float]:
    """Return the CPU seconds of the trainer, of reading its rows and of measuring its loss, as
    measured by the runner.
    """
    # With a new nonce, the run is never up to date.
    doit(checkout, "certify", RUN, "--nonce", secrets.token_hex(32))
    certificate = read_certificate(checkout / f"certificates/{RUN}/certificate.json")
    report = parse_report(parse_statement(certificate.envelope.payload).report)
    return _seconds(report, ""), _seconds(report, "reading"), _seconds(report, "loss")


def _seconds(report: RunReport, of: str) -> float:
    key = f"{of}CpuSeconds" if of else "cpuSeconds"
    seconds = report.number(key)
    if seconds is None:
        raise ToolError(f"the run report has no {key}")
    return seconds


def _by_hand(checkout: Path, config: dict[str, object], folder: Path) -> float:
    """Return the CPU seconds of the same `axolotl train`, as the kernel counts them."""
    examples = (checkout / "examples").absolute()
    text = json.dumps(config).replace("input:alpaca", str(examples / "alpaca"))
    text = text.replace("input:model", str(examples / "tiny-llama"))
    scratch = folder / "by-hand"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    own = json.loads(text) | {
        "output_dir": str(scratch.absolute() / "output"),
        "dataset_prepared_path": str(scratch.absolute() / "prepared"),
        "seed": 42,
    }
    (scratch / "config.yml").write_text(yaml.safe_dump(own))
    python = training_env.location(Path.cwd()) / "bin/python"
    command = [python, "-P", "-m", "axolotl.cli.main", "train", scratch.absolute() / "config.yml"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(scratch.absolute()), **COMPUTES}
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(
            [*map(str, command), "--launcher", "python"],
            cwd=scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        # wait4 reports the CPU time of this child and of the children that it waited for.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ToolError(f"axolotl failed by hand\n{(scratch / 'log').read_text()[-2000:]}")
    return usage.ru_utime + usage.ru_stime
