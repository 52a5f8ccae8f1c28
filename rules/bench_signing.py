"""Model signing side by side with the reference implementation, as processes, in turn.

The reference lives in an environment of its own, made from the tests' hashed lock of oracles. CPU
seconds are user and system time of the whole process, so that start-up counts for both.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from rules.bootstrap import cache_directory

TIMES = 3
LARGE, SMALL, MANY = "2 GiB in 8 files", "5,000 files", "50,000 files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One process: CPU and wall seconds, and the most memory it held."""

    cpu: float
    peak: int


def oracle() -> Path:
    """The reference's interpreter; the tests make its environment."""
    found = sorted((cache_directory() / "envs").glob("oracles-*/complete"))
    if not found:
        raise ToolError(
            "the reference implementation is not installed",
            hint="./doit test tests/e2e/test_model_signing.py",
        )
    return found[-1].parent / "bin" / "python"


def cost(command: list[str]) -> Cost:
    """Run a process to its end and say what it used."""
    # Who installs these runs compiled files, also where this environment forbids to write them.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ToolError(f"cannot be measured: exit {process.returncode} of {' '.join(command)}")
    return Cost(cpu=used.ru_utime + used.ru_stime, peak=used.ru_maxrss * 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Ours and theirs for one task, medians."""

    ours: float
    theirs: float
    peak: int


def compare(folder: Path, model: Path, key: Path, public: Path) -> dict[str, Pair]:
    """`sign` and `verify` of one model by both, in turn, page cache warm."""
    ours, theirs = folder / "ours.sig", folder / "theirs.sig"
    program = [sys.executable, "-m", "aicert"]
    reference = [str(oracle()), "-I", "-W", "ignore", "-m", "model_signing"]
    tasks: dict[str, tuple[list[str], list[str]]] = {
        "sign": (
            [*program, "sign", str(model), "--key", str(key), "--signature", str(ours)],
            [
                *reference,
                "sign",
                "key",
                "--private_key",
                str(key),
                "--signature",
                str(theirs),
                str(model),
            ],
        ),
        "verify": (
            [
                *program,
                "verify-signature",
                str(model),
                "--key",
                str(public),
                "--signature",
                str(ours),
            ],
            [
                *reference,
                "verify",
                "key",
                "--public_key",
                str(public),
                "--signature",
                str(theirs),
                str(model),
            ],
        ),
    }
    found: dict[str, Pair] = {}
    for name, commands in tasks.items():
        taken: tuple[list[Cost], list[Cost]] = ([], [])
        for _ in range(TIMES):
            for own, command in zip(taken, commands, strict=True):
                own.append(cost(command))
        found[name] = Pair(
            ours=statistics.median(one.cpu for one in taken[0]),
            theirs=statistics.median(one.cpu for one in taken[1]),
            peak=max(one.peak for one in taken[0]),
        )
    return found


def make_key(folder: Path) -> tuple[Path, Path]:
    """A P-256 key for this measurement, in PEM files."""
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
    """2 GiB in 8 files."""
    block = os.urandom(1 << 20)
    for number in range(8):
        with (model / f"model-{number}.safetensors").open("wb") as file:
            for _ in range(256):
                file.write(block)


def many(count: int) -> Callable[[Path], None]:
    """`count` small files in folders of a thousand."""

    def make(model: Path) -> None:
        for number in range(count):
            shelf = model / f"{number // 1000:02}"
            if not number % 1000:
                shelf.mkdir()
            (shelf / f"{number % 1000:03}.json").write_bytes(b"x" * (200 + number % 1000))

    return make


MODELS: dict[str, tuple[Callable[[Path], None], float]] = {
    LARGE: (large, 0.75),
    SMALL: (many(5_000), 1 / 6),
    MANY: (many(50_000), 1 / 6),
}
