"""Parse the runner's command line, which the host or the machine's init writes."""

import argparse
from pathlib import Path

from aicert.errors import ConfigError
from aicert.formats import machine_io
from aicert.formats.digest import Digest
from enclave_runner.sandbox.containment import Limits


def parse(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    """Parse the options; `input` and `builder` become dictionaries by name."""
    parser = argparse.ArgumentParser(prog="enclave_runner", description=description)
    add = parser.add_argument
    add("--tcti", required=True, help="the TPM, as tpm2-tss names it")
    add("--nonce", required=True, help="64 hex digits, which the quote repeats")
    add("--lockfile", required=True, type=Path, help="the run's lockfile")
    add("--input", action="append", default=[], metavar="NAME=PATH", help="where an input is")
    add(
        "--builder", action="append", default=[], metavar="NAME=DIGEST",
        help="a volume of the image and its root hash, for the statement",
    )  # fmt: skip
    add("--scratch", required=True, type=Path, help="a new folder for the trainer to write to")
    add("--out", required=True, type=Path, help="a folder for the outputs and the certificate")
    add("--training-env", required=True, type=Path, help="the Python environment to train in")
    add("--tools", type=Path, metavar="DIR", help="trainers' own packages: DIR/TRAINER")
    add("--events-fd", required=True, type=int, help="the descriptor to write events to")
    add("--trainer-user", type=int, help="the user to run the trainer as")
    add(
        "--gpu", action="append", default=[], type=Path, metavar="NODE",
        help="a device node that the trainer may use",
    )  # fmt: skip
    for limit in machine_io.LIMITS:
        add(f"--{limit}", required=True, type=int)
    arguments = parser.parse_args(argv)
    pairs = [item.partition("=") for item in arguments.input]
    arguments.input = {name: Path(path) for name, _, path in pairs}
    pairs = [item.partition("=") for item in arguments.builder]
    arguments.builder = {name: Digest.parse(digest) for name, _, digest in pairs}
    return arguments


def beside_scratch(arguments: argparse.Namespace, name: str) -> Path:
    """Return a path for the runner's own use, on the same disk or in the same memory as scratch."""
    scratch: Path = arguments.scratch
    return scratch.with_name(f"{scratch.name}-{name}")


def tools_of(arguments: argparse.Namespace, trainer: str) -> Path | None:
    """Return the folder with a trainer's own packages; None if it needs none.

    ConfigError if this machine lacks them.
    """
    if trainer not in machine_io.TOOLS:
        return None
    folder: Path | None = arguments.tools and arguments.tools / trainer
    if folder is None or not folder.is_dir():
        raise ConfigError(f"this machine has no {trainer}", hint='image = "tools"')
    return folder


def limits(arguments: argparse.Namespace) -> Limits:
    """Return the limits that the host sets for the run."""
    return Limits(
        seconds=arguments.time_limit,
        memory_bytes=arguments.memory,
        processes=arguments.processes,
        scratch_bytes=arguments.scratch_limit,
        threads=arguments.threads,
    )
