"""What all commands share: writing to the terminal, its width, and the format of the help."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from aicert.errors import ToolError
from aicert.text import fitted

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Callable

    Write = Callable[[str], None]
    Subparsers = _SubParsersAction[Any]

HELP_WIDTH = 80
EXITS = "exit codes: 0 passed, 1 the evidence says no, 2 no verdict, 3 bad command line or policy"


def help_formatter(prog: str) -> argparse.HelpFormatter:
    """Format the help of the program `prog`, keeping the lines of its description."""
    # A fixed width: finding the terminal's would import shutil, for every option that is added.
    return argparse.RawDescriptionHelpFormatter(prog, width=HELP_WIDTH)


def add_part(
    parts: "Subparsers", name: str, help_: str, text: str, codes: str = EXITS
) -> argparse.ArgumentParser:
    """Add a command: its line in the list, and its own help, which ends with its exit codes."""
    parser: argparse.ArgumentParser = parts.add_parser(
        name, help=help_, description=text, epilog=codes, formatter_class=help_formatter
    )
    return parser


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the option for the format of standard output."""
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="what to write to stdout"
    )


def write(text: str) -> None:
    """Write to stdout; if the reader has gone, the exit code stays the same."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise the interpreter complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ToolError(f"cannot write the result: {error.strerror}") from None


def write_lines(text: str) -> None:
    """Write lines for people to stdout, none longer than the terminal is wide."""
    write(fitted(text, terminal_columns()))


def complain(text: str) -> None:
    """Write to stderr; if it is closed or full, only the exit code is left."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(fitted(text, terminal_columns(sys.stderr)))
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def use_colour() -> bool:
    """Whether stdout is a terminal that wants styles (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def terminal_columns(stream: TextIO | None = None) -> int | None:
    """The width of the terminal that `stream` (by default stdout) is connected to; None if it is
    not a terminal, or its width is unknown.
    """
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or None
    except (OSError, ValueError):
        return None
