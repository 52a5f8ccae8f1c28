"""Model signing compared with the reference implementation, as processes run in turn.

The reference has its own environment, made from the tests' hashed lock of oracles. CPU seconds are
user and system time of the whole process, so start-up counts for both.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from rules.host import installer, locked_env
from rules.host.places import CODE
from rules.host.progress import say

LOCK = Path("tests/oracles/requirements.lock")
PROGRAM = (sys.executable, "-m", "aicert")
# The shortest program that reads and hashes the files one after another, by the standard library.
FLOOR = """
import hashlib, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*")):
    if path.is_file():
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
"""
LARGE, SMALL, MANY = "2 GiB in 8 files", "5,000 files", "50,000 files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One process: CPU and wall seconds, and its peak memory."""

    cpu: float
    wall: float
    peak: int


def oracle() -> Path:
    """Return the reference's interpreter, in the environment that the tests use too."""
    try:
        return locked_env.interpreter(CODE / LOCK, "oracles", say)
    except installer.InstallError as error:
        raise ToolError(error.message, hint=error.hint) from None


def cost(command: list[str]) -> Cost:
    """Run a process to its end and measure it."""
    # Installed users run compiled files, so write them even if this environment forbids it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise ToolError(f"cannot be measured: exit {process.returncode} of {' '.join(command)}")
    return Cost(cpu=used.ru_utime + used.ru_stime, wall=wall, peak=used.ru_maxrss * 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Median CPU seconds for one task: ours, theirs, and for reading and hashing alone."""

    ours: float
    theirs: float
    floor: float
    peak: int


def in_turn(commands: Sequence[list[str]], times: int) -> list[list[Cost]]:
    """Return the costs of each command, run in turn so that noise affects all alike, with a warm
    page cache.
    """
    for command in commands:
        cost(command)
    taken: list[list[Cost]] = [[] for _ in commands]
    for _ in range(times):
        for own, command in zip(taken, commands, strict=True):
            own.append(cost(command))
    return taken


def compare(folder: Path, model: Path, key: Path, public: Path, times: int) -> dict[str, Pair]:
    """Compare `sign` and `verify` of one model by both programs; return medians of `times` runs."""
    ours, theirs = folder / "ours.sig", folder / "theirs.sig"
    reference = [str(oracle()), "-I", "-W", "ignore", "-m", "model_signing"]
    sign = [*reference, "sign", "key", "--private_key", str(key)]
    verify = [*reference, "verify", "key", "--public_key", str(public)]
    tasks = {
        "sign": (
            signs(model, key, ours),
            [*sign, "--signature", str(theirs), str(model)],
        ),
        "verify": (
            [*PROGRAM, "verify-signature", str(model), f"--key={public}", f"--signature={ours}"],
            [*verify, "--signature", str(theirs), str(model)],
        ),
    }
    hashing = [sys.executable, "-I", "-c", FLOOR, str(model)]
    pairs: dict[str, Pair] = {}
    for name, commands in tasks.items():
        own, other, bare = in_turn([*commands, hashing], times)
        pairs[name] = Pair(
            ours=statistics.median(one.cpu for one in own),
            theirs=statistics.median(one.cpu for one in other),
            floor=statistics.median(one.cpu for one in bare),
            peak=max(one.peak for one in own),
        )
    return pairs


def signs(model: Path, key: Path, signature: Path) -> list[str]:
    """Return the command that signs `model`."""
    return [*PROGRAM, "sign", str(model), f"--key={key}", f"--signature={signature}"]


def one_core_over_two(folder: Path, model: Path, key: Path) -> float:
    """Return the wall seconds of signing on one core, divided by those on two."""
    command = signs(model, key, folder / "ours.sig")
    one, two = in_turn([["taskset", "-c", cores, *command] for cores in ("0", "0,1")], 5)
    return statistics.median(c.wall for c in one) / statistics.median(c.wall for c in two)


def start_up() -> float:
    """Return the CPU seconds that our `--help` takes, divided by those of the reference."""
    reference = [str(oracle()), "-I", "-W", "ignore", "-m", "model_signing", "--help"]
    ours, theirs = in_turn([[*PROGRAM, "sign", "--help"], reference], 9)
    return statistics.median(c.cpu for c in ours) / statistics.median(c.cpu for c in theirs)


def make_key(folder: Path) -> tuple[Path, Path]:
    """Make a P-256 key for this measurement, in PEM files."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    key, public = folder / "key.pem", folder / "key.pub"
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return key, public


def large(model: Path) -> None:
    """Write a model of 2 GiB in 8 files."""
    block = os.urandom(1 << 20)
    for number in range(8):
        with (model / f"model-{number}.safetensors").open("wb") as file:
            for _ in range(256):
                file.write(block)


def many(count: int) -> Callable[[Path], None]:
    """Return a function that writes `count` small files in folders of a thousand."""

    def make(model: Path) -> None:
        for number in range(count):
            shelf = model / f"{number // 1000:02}"
            if not number % 1000:
                shelf.mkdir()
            (shelf / f"{number % 1000:03}.txt").write_bytes(b"x" * (200 + number % 1000))

    return make


# What to make, the target ratio, and how often to measure it.
MODELS: dict[str, tuple[Callable[[Path], None], float, int]] = {
    LARGE: (large, 0.75, 5),
    SMALL: (many(5_000), 1 / 6, 9),
    MANY: (many(50_000), 1 / 6, 3),
}
