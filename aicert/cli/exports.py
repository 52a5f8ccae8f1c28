"""`aicert export`, `aicert card` and `aicert report`: a certificate in other people's forms.

The first two repeat what a certificate claims, verify nothing, and say so; `report` appraises like
`aicert verify`, with the same options and exit codes, and writes the result as a page.
"""

import argparse
import importlib
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli.terminal import EXITS, add_format, complain, help_formatter
from aicert.cli.verify.commands import add_policy_options, appraised, show_result
from aicert.errors import AicertError, ConfigError, EvidenceError, ToolError
from aicert.text import safe

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers
    from aicert.exports.facts import Facts

# A model card is text that somebody wrote.
MAX_CARD = 1 << 22
# As aicert.exports.cyclonedx has them, which a help text must not load.
_VERSIONS = ("1.7", "1.6")
_EXPORT = """\
Write the files that other tools read: provenance.intoto.jsonl (in-toto, cosign), scai.intoto.json,
bom.cdx.json (CycloneDX), bom.spdx.json (SPDX 3.0), run-key.pem, and for a measured machine
bom.image.cdx.json, the packages of its image.

  aicert export certificate.json .
  aicert export certificate.json . --spec-version 1.6    # CycloneDX 1.6, not 1.7

Nothing is verified: these files repeat what the certificate claims.
"""
_CARD = """\
Write or renew a marked block in a model card: what was certified, and how to check it.

  aicert card certificate.json model/README.md

Only the text between the marks changes. Nothing is verified.
"""
_REPORT = """\
Appraise like `aicert verify`, and write the result as one self-contained page.

  aicert report certificate.json model/ -o page.html --policy local --root .aicert/ca/local.pem
"""


def add_commands(commands: "Subparsers") -> None:
    """Add this module's commands to the parser of `aicert`."""
    export = commands.add_parser(
        "export", help="write a certificate in other formats", description=_EXPORT,
        formatter_class=help_formatter,
    )  # fmt: skip
    export.add_argument(
        "certificate", metavar="CERT", help="the certificate file; - is standard input"
    )
    export.add_argument("folder", metavar="DIR", help="where to write")
    export.add_argument("--spec-version", choices=_VERSIONS, default=_VERSIONS[0],
        help="version of CycloneDX; %(default)s if not given")  # fmt: skip
    add_format(export)
    export.set_defaults(run=_export)
    card = commands.add_parser(
        "card", help="write a block about a certificate into a model card", description=_CARD,
        formatter_class=help_formatter,
    )  # fmt: skip
    card.add_argument(
        "certificate", metavar="CERT", help="the certificate file; - is standard input"
    )
    card.add_argument("card", metavar="README", help="the model card; it is created if missing")
    card.add_argument("--output", metavar="NAME", help="the output, if there are several")
    card.add_argument("--page", metavar="URL", help="link to this copy of verify.html")
    add_format(card)
    card.set_defaults(run=_card)
    report = commands.add_parser(
        "report", help="appraise, and write the result as a page", description=_REPORT,
        epilog=EXITS, formatter_class=help_formatter,
    )  # fmt: skip
    add = report.add_argument
    add("certificate", metavar="CERT", help="the certificate file; - is standard input")
    add("model", metavar="MODEL_DIR", nargs="?", help="the model's directory")
    add("-o", "--out", metavar="FILE", required=True, help="the page to write")
    add_policy_options(report)
    add_format(report)
    report.set_defaults(run=_report)


def _facts(path: str) -> "Facts":
    from aicert.exports import facts
    from aicert.verifier import verify

    return facts.read(verify.read_certificate_file(path))


def _export(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    from aicert.exports.files import exports
    from aicert.files.atomic import write_atomically

    folder = Path(options.folder)
    if not options.folder:
        # To pathlib it is the current directory, which nobody named: a variable was not set.
        raise ConfigError("DIR is empty", hint="name the directory; . is the current one")
    if not folder.is_dir():
        make = f"mkdir -p {shlex.quote(options.folder[:200])}"
        taken = os.path.lexists(folder)
        raise ConfigError(
            f"not a directory: {options.folder[:200]!a}",
            hint="name a directory to write into" if taken else make,
        )
    contents = exports(_facts(options.certificate), options.spec_version)
    places = [folder / name for name in contents]
    for place, data in zip(places, contents.values(), strict=True):
        write_atomically(place, data)
        if options.format == "text":
            write(f"written  {safe(os.fspath(place))}\n")
    if options.format == "json":
        _write_json({"written": [os.fspath(place) for place in places], "verified": False}, write)
    complain("nothing was verified; `aicert verify` does that\n")
    return 0


def _card(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    try:
        update = importlib.import_module("aicert.exports.card").update
    except ModuleNotFoundError as error:
        raise ToolError(
            f"model cards need the package {error.name}, which is not installed",
            hint="in a checkout of this project: pip install '.[cards]'",
        ) from None
    from aicert.exports.provenance import CERTIFICATE
    from aicert.files.atomic import check_place, require_replaceable, write_atomically
    from aicert.files.bounded import read_bounded

    facts = _facts(options.certificate)
    path = Path(options.card)
    before = ""
    if require_replaceable(path) is not None:
        try:
            before = read_bounded(path, MAX_CARD, "model card").decode("utf-8")
        except UnicodeDecodeError:
            raise EvidenceError(f"the card {os.fspath(path)!a} is not UTF-8") from None
    outputs = sorted(facts.statement.outputs)
    if options.output is None and len(outputs) != 1:
        raise ConfigError(f"say which output: {', '.join(outputs)}", hint="--output NAME")
    after, notes = update(before, facts, options.output or outputs[0], options.page)
    beside = path.with_name(CERTIFICATE)
    if not os.path.lexists(beside):
        source = "CERT" if options.certificate == "-" else options.certificate
        copy = shlex.join(("cp", source, os.fspath(beside)))
        notes.append(f"the card names {CERTIFICATE}, which is not beside it: {copy}")
    if after != before:
        check_place(path)
        write_atomically(path, after.encode())
    if options.format == "json":
        written = [] if after == before else [os.fspath(path)]
        _write_json({"written": written, "notes": notes, "verified": False}, write)
        return 0
    for note in notes:
        write(f"note     {safe(note)}\n")
    if after == before:
        write("nothing to do: the card already says so\n")
    else:
        write(f"written  {safe(os.fspath(path))}\n")
    return 0


def _write_json(document: dict[str, object], write: Callable[[str], None]) -> None:
    """One JSON document with a line end."""
    write(json.dumps(document) + "\n")


def _report(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    from aicert.exports import facts
    from aicert.exports.page import page
    from aicert.files.atomic import check_place, write_atomically
    from aicert.formats import certificate
    from aicert.verifier import verify

    out = Path(options.out)
    check_place(out)
    if os.path.realpath(out) == os.path.realpath(options.certificate):
        raise ConfigError("the page would replace the certificate", hint="-o page.html")
    model = options.model and os.path.realpath(options.model)
    if model and Path(os.path.realpath(out)).is_relative_to(model):
        raise ConfigError(
            f"{options.out[:200]!a} is in the model's directory, which holds certified files only",
            hint="put the page elsewhere",
        )
    data = verify.read_certificate_file(options.certificate)
    parsed = certificate.parse(data)
    result = appraised(options, parsed)
    try:
        facts_read = facts.read(data)
    except AicertError:
        # Then a check has failed, and the page has only the verdict and the checks.
        facts_read = None
    write_atomically(out, page(certificate.core_digest(parsed), facts_read, result).encode())
    code = show_result(result, options.format)
    # JSON is one document.
    say = write if options.format == "text" else complain
    say(f"\nwritten  {safe(options.out)}\n")
    return code
