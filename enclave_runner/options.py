"""The runner's command line, which the host writes."""

import argparse
from pathlib import Path

from aicert.formats import machine_io
from aicert.formats.digest import Digest


def parse(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    """The options; inputs and builder by name."""
    parser = argparse.ArgumentParser(prog="enclave_runner", description=description)
    parser.add_argument("--tcti", required=True)
    parser.add_argument("--nonce", required=True)
    parser.add_argument("--lockfile", required=True, type=Path)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--builder", action="append", default=[], metavar="NAME=DIGEST")
    parser.add_argument("--scratch", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--training-env", required=True, type=Path)
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
