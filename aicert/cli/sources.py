"""`aicert sources CERT`: do the sources that a certificate names still have the same bytes?

This says nothing about the certificate itself: `aicert verify` tells whether a machine measured
those bytes. Source names are the builder's claims; this asks the claimed uri, with your own login.
"""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aicert.cli.terminal import add_format, help_formatter
from aicert.formats import lockfile
from aicert.formats.certificate import Certificate
from aicert.text import safe

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers, Write
    from aicert.sources.compare import Comparison

_WORDS = {"ok": "ok", "failed": "FAILED", "not-checked": "-", "not-applicable": "n/a"}


def add_command(commands: "Subparsers") -> None:
    """Add `sources` to the parser of `aicert`."""
    parser = commands.add_parser(
        "sources",
        help="ask the sources of a certificate's inputs whether they still have those bytes",
        description="Ask the hubs and servers that a certificate's inputs came from whether they "
        "still have the same bytes. The table says what was compared: a digest, or only a size. "
        "The certificate is not verified.",
        epilog="exit codes: 0 all agree, 1 one differs, 2 one could not be asked",
        formatter_class=help_formatter,
    )
    parser.add_argument(
        "certificate", metavar="CERT", help="the certificate file; - is standard input"
    )
    parser.set_defaults(run=_sources)
    add_format(parser)


def _sources(options: argparse.Namespace, say: "Write") -> int:
    from aicert.verifier.verify import read_certificate

    text, code = run(read_certificate(options.certificate), options.format)
    say(text)
    return code


def run(certificate: Certificate, form: str) -> tuple[str, int]:
    """The output, as `text` or `json`, and the exit code."""
    # This is outside the trust core, and has libraries of its own: the extra `sources`.
    from aicert.sources.compare import compare_all, exit_code

    comparisons = compare_all(lockfile.parse(certificate.lockfile))
    return (to_json(comparisons) if form == "json" else to_text(comparisons)), exit_code(
        comparisons
    )


def to_text(comparisons: "Sequence[Comparison]") -> str:
    """Format one line or more for each input; the texts come from a certificate or a server."""
    lines = ["a certificate's sources; `aicert verify` says whether the certificate is true", ""]
    for one in comparisons:
        first, *more = one.detail.split("\n")
        lines.append(f"  {_WORDS[one.verdict]:<6}  {safe(one.name):<16} {safe(first)}")
        lines += [f"{'':<27}{safe(line)}" for line in more]
        if one.hint is not None and one.verdict != "ok":
            lines.append(f"{'':<27}hint: {safe(one.hint)}")
    counts = {word: sum(one.verdict == word for one in comparisons) for word in _WORDS}
    agree = f"{counts['ok']} agree, {counts['failed']} differ"
    rest = f"{counts['not-checked']} not asked, {counts['not-applicable']} the builder's own"
    lines += ["", f"{agree}, {rest}"]
    return "\n".join(lines) + "\n"


def to_json(comparisons: "Sequence[Comparison]") -> str:
    """Format the comparisons as JSON."""
    inputs = [
        {"name": one.name, "verdict": one.verdict, "detail": one.detail} for one in comparisons
    ]
    return json.dumps({"inputs": inputs}, indent=2) + "\n"
