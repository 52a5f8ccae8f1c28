"""The `aicert` command: its options, errors and exit codes; each command has a module of its own.

The result goes to stdout, progress and errors to stderr. Exit codes: 0 passed, 1 the evidence says
no, 2 no verdict, 3 bad configuration or command line.
"""

import argparse
import gc
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from aicert.cli.terminal import EXITS, complain, help_formatter, write, write_lines
from aicert.cli.verify import commands as verify
from aicert.errors import AicertError, ToolError
from aicert.files.bounded import why
from aicert.text import error_lines

# Commands whose options can be added without loading those of other commands.
_OWN = ("verify", "show", "init")
_SIGNATURES = ("sign", "verify-signature")
_LEASES = ("lease",)
_DECIDE = ("verify", "verify-signature", "report")
NO_VERDICT = 2
CONFIG_EXIT = 3
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # 2, argparse's own code, means "no verdict" here.
        self.print_usage(sys.stderr)
        self.exit(CONFIG_EXIT, error_lines(message, f"{self.prog} --help"))


class _Version(argparse.Action):
    """Shows the version, which is looked up only on request, since that imports a lot."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            shown = version("aicert")
        except PackageNotFoundError:
            shown = "(a checkout that is not installed)"
        write(f"aicert {shown}\n")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; no error that a user can cause shows a traceback."""
    words = sys.argv[1:] if argv is None else argv
    if argv is None and not sys.warnoptions:
        # Warnings of libraries are for the developers who call them; users see only our own
        # messages.
        warnings.simplefilter("ignore")
    # Everything that is created while modules load is kept, and searching it for garbage takes a
    # tenth of the time. So garbage collection waits until the verdict is out.
    collected = gc.isenabled()
    gc.disable()
    try:
        # A command must not load what only the help of other commands needs.
        return _run(_options(words))
    finally:
        if argv is None:
            # The process ends now. Even with collection disabled, the interpreter would search
            # everything once more before freeing it: another tenth of the time.
            gc.freeze()
        elif collected:
            gc.enable()


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser, commands = _parser(words[0] if words else None)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        # Otherwise argparse would show the usage of the whole program.
        commands[options.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _run(options: argparse.Namespace) -> int:
    if sys.stdout is None:
        return _report(ToolError("cannot write the result: standard output is closed"), "text")
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        code: int = options.run(options, write if options.format == "json" else write_lines)
    except AicertError as error:
        return _report(error, options.format)
    except KeyboardInterrupt:
        complain(f"\ninterrupted{': no verdict' if options.command in _DECIDE else ''}\n")
        return INTERRUPTED
    except OSError as error:
        where = f": {os.fsdecode(error.filename)!a}" if error.filename else ""
        return _report(ToolError(f"{why(error)}{where}"), options.format)
    except Exception as error:  # noqa: BLE001 - Python would exit with 1: "the evidence says no"
        message = f"no verdict, a defect of this program: {type(error).__name__}: {error}"
        complain(error_lines(message, "report it, with the certificate"))
        return NO_VERDICT
    return code


def _parser(
    word: str | None,
) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the program's parser, and the parsers of its commands by name."""
    parser = _Parser(
        prog="aicert",
        description="Verify certificates and signatures of AI models.",
        epilog=EXITS,
        formatter_class=help_formatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="aicert"
    )
    verify.add_command(commands)
    if word != "verify":
        from aicert.cli import init, sources
        from aicert.cli.show import commands as show

        for module in (show, sources, init):
            module.add_command(commands)
    if word not in (*_OWN, *_SIGNATURES):
        from aicert.cli.lease import commands as lease

        lease.add_command(commands)
    if word not in (*_OWN, *_LEASES):
        from aicert.cli import signing as signature_commands

        signature_commands.add_commands(commands)
    if word not in (*_OWN, *_SIGNATURES, *_LEASES):
        from aicert.cli import exports

        exports.add_commands(commands)
        from aicert.cli import guard

        guard.add_command(commands)
        from aicert.cli import digest

        digest.add_command(commands)
        from aicert.cli import timestamp

        timestamp.add_command(commands)
        from aicert.cli.log import commands as log

        log.add_command(commands)
        from aicert.cli import records as row_commands

        row_commands.add_commands(commands)
        from aicert.cli import audits

        audits.add_commands(commands)
        from aicert.cli import connect

        connect.add_command(commands)
    return parser, commands.choices


def _report(error: AicertError, form: str) -> int:
    if form == "json":
        document: dict[str, object] = {
            "verdict": "failed" if error.exit_code == 1 else "none",
            "tier": None,
            "checks": [],
            "subject": None,
        }
        document |= {"lockfile": None, "error": error.message, "hint": error.hint}
        try:
            write(json.dumps(document, indent=2) + "\n")
        except ToolError as unwritten:
            error = unwritten
    complain(error_lines(error.message, error.hint))
    return error.exit_code
