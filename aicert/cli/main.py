"""The `aicert` command: verify, show, sources, and what `aicert.export` and
`aicert.records` add (design: commands).

The result goes to stdout, progress and errors to stderr. Exit codes: 0 passed, 1 the evidence says
no, 2 no verdict, 3 bad configuration or command line.
"""

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from aicert.cli import table
from aicert.errors import AicertError, ConfigError, ToolError
from aicert.text import error_lines, fitted

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from aicert.appraisal.result import AttestationResult
    from aicert.formats.certificate import Certificate

    Write = Callable[[str], None]

# Commands that need nothing of aicert.export, not even to be parsed.
_OWN = ("verify", "show")
_SIGNATURES = ("sign", "verify-signature")
_DECIDE = ("verify", "verify-signature", "report")
NO_VERDICT = 2
CONFIG_EXIT = 3
INTERRUPTED = 130
HELP_WIDTH = 80

_VERIFY = """\
Check that the model in MODEL_DIR was made from what its lockfile names, inside a measured machine.

  aicert verify certificate.json model/ --lockfile lockfiles/tiny-alpaca.lock.toml
  aicert verify certificate.json model/ --policy local --root .aicert/ca/local.pem

The policy is yours and says which platforms and machine images you accept: `default` wants a
cloud's virtual TPM, `confidential` one in a machine that its processor protects; `local` and `qemu`
accept the simulated platform whose root you give, whose evidence the operator could have forged;
anything else is the path of a policy file.

With --lineage, every input that is another run's output must have that run's certificate there, and
so on back to the first: PATH is a certificate, or a directory with RUN/certificate.json in it.
"""
EXITS = "exit codes: 0 passed, 1 the evidence says no, 2 no verdict, 3 bad command line or policy"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # 2, argparse's own code, means "no verdict" here.
        self.print_usage(sys.stderr)
        self.exit(CONFIG_EXIT, error_lines(message, f"{self.prog} --help"))


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that imports much."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            said = version("aicert")
        except PackageNotFoundError:
            said = "of a checkout that is not installed"
        write(f"aicert {said}\n")
        parser.exit()


def _formatter(prog: str) -> argparse.HelpFormatter:
    # A given width: asking for the terminal's imports shutil, for every option that is added.
    return argparse.RawDescriptionHelpFormatter(prog, width=HELP_WIDTH)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; nothing that a user can cause is a traceback."""
    words = sys.argv[1:] if argv is None else argv
    # What is made while modules load is all kept: looking for garbage there costs a tenth of the
    # time. Collections are put off until the verdict is out.
    collected = gc.isenabled()
    gc.disable()
    try:
        # A command must not pay for what others need to describe themselves.
        return _run(_options(words))
    finally:
        if collected:
            gc.enable()


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser, commands = _parser(words[0] if words else None)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        # argparse would show the usage of the whole program.
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
        return _report(ToolError(f"{error.strerror or error}{where}"), options.format)
    except Exception as error:  # noqa: BLE001 - Python would exit with 1: "the evidence says no"
        said = f"no verdict, a defect of this program: {type(error).__name__}: {error}"
        complain(error_lines(said, "report it, with the certificate"))
        return NO_VERDICT
    return code


def _parser(
    word: str | None,
) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the program, and those of its commands."""
    parser = _Parser(
        prog="aicert",
        description="Verify certificates and signatures of AI models.",
        epilog=EXITS,
        formatter_class=_formatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="aicert"
    )
    _add_commands(commands)
    if word not in _OWN:
        from aicert.cli import signing as signature_commands

        signature_commands.add_commands(commands, _formatter)
    if word not in (*_OWN, *_SIGNATURES):
        from aicert.cli import exports

        exports.add_commands(commands, _formatter)
        from aicert.cli import records as row_commands

        row_commands.add_commands(commands, _formatter)
    return parser, commands.choices


def _add_commands(commands: "_SubParsersAction[Any]") -> None:
    verify = commands.add_parser(
        "verify",
        help="check a certificate and the model that it is for",
        description=_VERIFY,
        epilog=EXITS,
        formatter_class=_formatter,
    )
    show = commands.add_parser(
        "show",
        help="print what a certificate claims, with no verdict",
        description="Print what a certificate claims. Nothing is verified.",
        formatter_class=_formatter,
    )
    sources = commands.add_parser(
        "sources",
        help="ask the sources of a certificate's inputs whether they have those bytes",
        description="Ask hubs and servers, by metadata where they have it. Nothing is verified.",
        epilog="exit codes: 0 all agree, 1 one differs, 2 one could not be asked",
        formatter_class=_formatter,
    )
    for parser, run in ((verify, _verify), (show, _show), (sources, _sources)):
        parser.add_argument("certificate", metavar="CERT", help="the certificate file")
        parser.set_defaults(run=run)
    verify.add_argument("model", metavar="MODEL_DIR", nargs="?", help="the model's directory")
    add_policy_options(verify)
    verify.add_argument(
        "--certificate-only", action="store_true", help="exit 0 if all but the model is ok"
    )
    for parser in (verify, show, sources):
        add_format(parser)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what standard output gets."""
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="what stdout gets"
    )


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of whoever appraises (`appraised`)."""
    add = parser.add_argument
    add("--policy", default="default", help="default, confidential, local, qemu or a policy file")
    add("--root", metavar="PEM", help="the root of a simulated platform that you trust")
    add("--lockfile", metavar="L", help="the lockfile you expect: a path or sha256:HEX")
    add("--image-lock", metavar="L", help="the lock of a machine image that you accept")
    add("--nonce", metavar="HEX", help="your challenge: proves that the run came after it")
    add("--at", metavar="TIME", help="judge certificates' validity at this time, not now")
    add("--lineage", metavar="PATH", action="append", help="certificates of the runs it builds on")


def _verify(options: argparse.Namespace, _: "Write") -> int:
    if options.certificate_only and options.model is not None:
        raise ConfigError("--certificate-only and MODEL_DIR contradict each other")
    result = appraised(options, options.certificate)
    return show_result(result, options.format, certificate_only=options.certificate_only)


def appraised(options: argparse.Namespace, certificate: "str | Certificate") -> "AttestationResult":
    """What is to be said of `certificate` and the model, by the options."""
    from aicert.cli.progress import Progress
    from aicert.verifier import verify as api

    with Progress(options.model, complain) as progress:
        return api.check_files(
            certificate,
            options.model,
            policy=options.policy,
            root=options.root,
            lockfile=options.lockfile,
            image=options.image_lock,
            nonce=options.nonce,
            at=options.at,
            lineage=options.lineage,
            on_bytes=progress.on_bytes,
        )


def show_result(
    result: "AttestationResult", form: str = "text", *, certificate_only: bool = False
) -> int:
    """Write the result to stdout as `text` or `json`; returns the exit code that it stands for."""
    if form == "json":
        write(table.json_text(result))
    else:
        write_lines(table.text(result, colour=use_colour(), columns=terminal_columns()))
    if certificate_only and result.verdict == "none" and result.certificate_consistent == "yes":
        return 0
    return result.exit_code


def _show(options: argparse.Namespace, say: "Write") -> int:
    from aicert.cli.show import claims, claims_text
    from aicert.verifier import verify as api

    certificate = api.read_certificate(options.certificate)
    if options.format == "json":
        say(json.dumps(claims(certificate), indent=2) + "\n")
    else:
        say(claims_text(certificate))
    return 0


def _sources(options: argparse.Namespace, say: "Write") -> int:
    # Outside the trust core, with libraries of its own: the extra `sources`.
    from aicert.cli import sources as command
    from aicert.verifier import verify as api

    text, code = command.run(api.read_certificate(options.certificate), options.format)
    say(text)
    return code


def _report(error: AicertError, form: str) -> int:
    if form == "json":
        document: dict[str, object] = {
            "verdict": "none",
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


def write(text: str) -> None:
    """Write to stdout; a reader that went away takes nothing from the exit code."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Else the interpreter complains when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ToolError(f"cannot write the result: {error.strerror}") from None


def write_lines(text: str) -> None:
    """Write lines for people to stdout, none longer than the terminal is wide."""
    write(fitted(text, terminal_columns()))


def complain(text: str) -> None:
    """Write to stderr; where it is closed or full, only the exit code is left to say it."""
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
    """The width of the terminal that a stream is, stdout if none is given; None where it is none,
    or does not say.
    """
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or None
    except (OSError, ValueError):
        return None
