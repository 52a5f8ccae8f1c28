"""What all commands share: writing to the terminal, its width, and the layout of the help."""

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
    """Return a formatter for the help of `prog` that keeps the line breaks of its description."""
    # The width is fixed: asking the terminal would import shutil, for every option that is added.
    return argparse.RawDescriptionHelpFormatter(prog, width=HELP_WIDTH)


def add_part(
    parts: "Subparsers", name: str, help_: str, text: str, codes: str = EXITS
) -> argparse.ArgumentParser:
    """Add a command: its line in the list of commands, and its own help, which ends with exit
    codes.
    """
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
    """Write to stdout. If the reader has closed the pipe, the exit code stays the same."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise the interpreter would print an error when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ToolError(f"cannot write the result: {error.strerror}") from None


def write_lines(text: str) -> None:
    """Write lines for people to stdout, none longer than the terminal is wide."""
    write(fitted(text, terminal_columns()))


def complain(text: str) -> None:
    """Write to stderr. If it is closed or full, only the exit code is left to report the error."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(fitted(text, terminal_columns(sys.stderr)))
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def use_colour() -> bool:
    """Return whether stdout is a terminal that wants colours (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def terminal_columns(stream: TextIO | None = None) -> int | None:
    """Return the width of the terminal that `stream` (by default stdout) is connected to.

    Returns None if it is not a terminal, or its width is unknown.
    """
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or None
    except (OSError, ValueError):
        return None
