"""`aicert show`: its options, and what it prints."""

import argparse
import json
from typing import TYPE_CHECKING

from aicert.cli.terminal import add_format, help_formatter

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers, Write


def add_command(commands: "Subparsers") -> None:
    """Add `show` to the parser of `aicert`."""
    parser = commands.add_parser(
        "show",
        help="print what a certificate claims, with no verdict",
        description="Print what a certificate claims. Nothing is verified.",
        formatter_class=help_formatter,
    )
    parser.add_argument(
        "certificate", metavar="CERT", help="the certificate file; - is standard input"
    )
    parser.set_defaults(run=_show)
    add_format(parser)


def _show(options: argparse.Namespace, say: "Write") -> int:
    from aicert.cli.show.claims import claims, claims_text
    from aicert.verifier.verify import read_certificate

    certificate = read_certificate(options.certificate)
    if options.format == "json":
        say(json.dumps(claims(certificate), indent=2) + "\n")
    else:
        say(claims_text(certificate))
    return 0
