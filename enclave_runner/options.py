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
    parser.add_argument("--tcti", required=True)
    parser.add_argument("--nonce", required=True)
    parser.add_argument("--lockfile", required=True, type=Path)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--builder", action="append", default=[], metavar="NAME=DIGEST")
    parser.add_argument("--scratch", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--training-env", required=True, type=Path)
    parser.add_argument("--tools", type=Path, metavar="DIR")
    parser.add_argument("--events-fd", required=True, type=int)
    parser.add_argument("--trainer-user", type=int)
    parser.add_argument("--gpu", action="append", default=[], type=Path, metavar="NODE")
    for limit in machine_io.LIMITS:
        parser.add_argument(f"--{limit}", required=True, type=int)
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


def overlay(arguments: argparse.Namespace, trainer: str) -> Path:
    """Return the folder with a trainer's own packages. ConfigError if this machine has none."""
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
