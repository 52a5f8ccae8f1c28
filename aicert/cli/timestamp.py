"""`aicert timestamp CERT --tsa URL`: ask a time authority for a time stamp of a certificate.

This verifies only that the authority answered this request: a verifier's policy decides whose time
stamps count (docs/spec/time.md).
"""

import argparse
import json
import secrets
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aicert.cli.terminal import add_format, help_formatter
from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.text import safe

if TYPE_CHECKING:
    from aicert.appraisal.evidence.time_token import Token
    from aicert.cli.terminal import Subparsers, Write
    from aicert.formats.certificate import Certificate

_TIMESTAMP = """\
Ask a time authority (RFC 3161) for a time stamp of a certificate, and add it to the file. A
verifier whose policy names that authority then judges the platform's certificates at that time, so
that the certificate can still be verified when they have expired.

  aicert timestamp certificate.json --tsa https://tsa.example/

It shows that the certificate existed at that time; it does not show that the run was recent.
"""


def add_command(commands: "Subparsers") -> None:
    """Add `timestamp` to the parser of `aicert`."""
    parser = commands.add_parser(
        "timestamp",
        help="ask a time authority for a time stamp of a certificate",
        description=_TIMESTAMP,
        epilog="exit codes: 0 added, 2 the authority gave none, 3 bad command line",
        formatter_class=help_formatter,
    )
    parser.add_argument("certificate", metavar="CERT", help="the certificate file; it is replaced")
    parser.add_argument("--tsa", metavar="URL", required=True, help="the time authority")
    add_format(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace, write: "Write") -> int:
    from aicert.crypto.x509 import stamp
    from aicert.files.atomic import check_place, write_atomically
    from aicert.formats.certificate import core_digest, emit
    from aicert.verifier.verify import read_certificate

    path = Path(options.certificate)
    if options.certificate == "-":
        raise ConfigError("the time stamp is added to a file: name it")
    certificate = read_certificate(path)
    check_place(path)
    stamped, token = stamped_certificate(certificate, options.tsa)
    write_atomically(path, emit(stamped))
    digest, time = core_digest(certificate), stamp(token.time)
    if options.format == "json":
        write(json.dumps({"certificate": str(digest), "time": time}, indent=2) + "\n")
    else:
        write(f"stamped  {safe(str(path))}\ndigest   {digest}\ntime     {time}, by {options.tsa}\n")
    return 0


def stamped_certificate(certificate: "Certificate", url: str) -> "tuple[Certificate, Token]":
    """Return the certificate with one more time stamp, and that stamp's parsed token."""
    from aicert.appraisal.evidence.trusted_time import encode
    from aicert.formats.certificate import core_digest

    # Check this before the authority is asked.
    require_room(certificate)
    der, token = asked(url, bytes.fromhex(core_digest(certificate).hex))
    return with_stamp(certificate, encode(der)), token


def require_room(certificate: "Certificate") -> None:
    """Raise EvidenceError if the certificate already has the maximum number of time stamps."""
    from aicert.formats.certificate import MAX_TIMESTAMPS

    if len(certificate.evidence.timestamps) >= MAX_TIMESTAMPS:
        raise EvidenceError(f"the certificate already has {MAX_TIMESTAMPS} time stamps")


def with_stamp(certificate: "Certificate", stamp: str) -> "Certificate":
    """Return the certificate with one more entry in `timestamps`: a token, or a log's proof."""
    from aicert.frozen import replace

    require_room(certificate)
    evidence = certificate.evidence
    evidence = replace(evidence, timestamps=(*evidence.timestamps, stamp))
    return replace(certificate, evidence=evidence)


def asked(url: str, digest: bytes) -> "tuple[bytes, Token]":
    """Request a token over a SHA-256 digest, and return it and its parsed form.

    The token answers this request, and is signed by the certificate that it carries. Raises
    ToolError or EvidenceError.
    """
    from aicert.appraisal.evidence.trusted_time import read_signed

    try:
        ask = import_module("aicert.sources.time_authority").ask
    except ImportError as error:
        raise ToolError(
            f"asking a time authority needs the package {error.name}, which is not installed",
            hint="in a checkout of this project: pip install '.[sources]'",
        ) from None
    nonce = secrets.randbits(63)
    der = cast(bytes, ask(url, digest, nonce))
    token = read_signed(der)
    if token.imprint != ("sha256", digest.hex()) or token.nonce != nonce:
        raise EvidenceError("the time authority answered a different request")
    return der, token
