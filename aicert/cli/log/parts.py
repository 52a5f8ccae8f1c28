"""What the commands of `aicert log` share: options, and the format of their output."""

import argparse
import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aicert.cli.terminal import add_format, add_part
from aicert.errors import ToolError
from aicert.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aicert.cli.terminal import Subparsers, Write
    from aicert.tlog.checkpoints import Checkpoint

EXITS = (
    "exit codes: 0 done, 1 the log says no (forked, rolled back, broken, not in it), "
    "2 it could not be read, 3 bad command line"
)


def with_folder(parts: "Subparsers", name: str, help_: str, text: str) -> argparse.ArgumentParser:
    """Add a command of `aicert log` whose argument is the log's folder."""
    parser = add_part(parts, name, help_, text, EXITS)
    parser.add_argument("folder", metavar="FOLDER", help="the log's folder")
    add_format(parser)
    return parser


def add_log_key(parser: argparse.ArgumentParser) -> None:
    """Add the option for the log's public key."""
    parser.add_argument(
        "--log-key",
        metavar="KEY",
        help="the log's key, NAME+ID+BASE64, as in a policy; if not given, the key in the folder, "
        "which shows that the log is intact but not whose it is",
    )


def show(
    options: argparse.Namespace,
    write: "Write",
    document: "dict[str, object]",
    lines: "Sequence[tuple[str, object]]",
) -> int:
    """Write the result to stdout in the requested format."""
    if options.format == "json":
        write(json.dumps(document, indent=2) + "\n")
    else:
        write("".join(f"{word:<10}{safe(str(value))}\n" for word, value in lines))
    return 0


def facts(checkpoint: "Checkpoint") -> "dict[str, object]":
    """Return the content of a checkpoint as JSON-ready values."""
    return {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}


def length(checkpoint: "Checkpoint") -> tuple[str, str]:
    """Return a line with the log's name and its number of entries."""
    entries = "1 entry" if checkpoint.size == 1 else f"{checkpoint.size} entries"
    return "log", f"{checkpoint.origin}, {entries}"


def log_server() -> Any:
    """Import aicert.sources.log_server, which reaches logs and witnesses over HTTP."""
    try:
        return import_module("aicert.sources.log_server")
    except ImportError as error:
        raise ToolError(
            f"logs and witnesses over HTTP need the package {error.name}, which is not installed",
            hint="in a checkout of this project: pip install '.[sources]'",
        ) from None
