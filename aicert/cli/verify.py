"""`aicert verify`: appraise a certificate and the model that it is for, and show the result."""

import argparse
from typing import TYPE_CHECKING

from aicert.cli.terminal import (
    EXITS,
    add_format,
    complain,
    help_formatter,
    terminal_columns,
    use_colour,
    write,
    write_lines,
)
from aicert.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aicert.appraisal.result import AttestationResult
    from aicert.cli.terminal import Subparsers, Write
    from aicert.formats.certificate import Certificate

_VERIFY = """\
Check that the model in MODEL_DIR was made from what its lockfile names, inside a measured machine.

  aicert verify certificate.json model/ --lockfile lockfiles/tiny-alpaca.lock.toml
  aicert verify certificate.json model/ --policy local --root .aicert/ca/local.pem

The policy is yours and says which platforms and machine images you accept: `default` wants a
cloud's virtual TPM, `confidential` one in a machine that its processor protects; `local` and `qemu`
accept a simulated platform, whose root you give and whose operator could have forged the evidence;
anything else is the path of a policy file.

With --lineage, every input that is another run's output must have that run's certificate there, and
so on back to the first: PATH is a certificate, or a directory with RUN/certificate.json in it.
"""


def add_command(commands: "Subparsers") -> None:
    """Add `verify` to the parser of `aicert`."""
    parser = commands.add_parser(
        "verify",
        help="check a certificate and the model that it is for",
        description=_VERIFY,
        epilog=EXITS,
        formatter_class=help_formatter,
    )
    parser.add_argument(
        "certificate", metavar="CERT", help="the certificate file; - is standard input"
    )
    parser.add_argument("model", metavar="MODEL_DIR", nargs="?", help="the model's directory")
    add_policy_options(parser)
    parser.add_argument(
        "--certificate-only",
        action="store_true",
        help="exit 0 if everything except the model is ok",
    )
    parser.add_argument(
        "--base", metavar="DIR", help="also check that DIR is the base model of the training"
    )
    add_format(parser)
    parser.set_defaults(run=_verify)


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of whoever appraises (`appraised`)."""
    add = parser.add_argument
    add(
        "--policy",
        default="default",
        help="default, confidential, confidential-gpu, google, local, qemu or a policy file",
    )
    add("--root", metavar="PEM", help="the root of a simulated platform that you trust")
    add("--lockfile", metavar="L", help="the lockfile you expect: a path or sha256:HEX")
    add("--image-lock", metavar="L", help="the lock of a machine image that you accept")
    add("--nonce", metavar="HEX", help="your challenge: proves that the run came after it")
    add(
        "--at",
        metavar="TIME",
        help="judge the validity of X.509 certificates at this time, not now",
    )
    add(
        "--collateral", metavar="FILE", help="Intel's collateral for the processor of a TDX machine"
    )
    add("--gpu-collateral", metavar="FILE", help="NVIDIA's collateral for the machine's GPUs")
    add("--lineage", metavar="PATH", action="append", help="certificates of the runs it builds on")


def _verify(options: argparse.Namespace, _: "Write") -> int:
    if options.certificate_only and options.model is not None:
        raise ConfigError("--certificate-only and MODEL_DIR contradict each other")
    if options.base is None:
        result = appraised(options, options.certificate)
        return show_result(result, options.format, certificate_only=options.certificate_only)
    from aicert.cli.base import check_copy
    from aicert.verifier.verify import read_certificate

    certificate = read_certificate(options.certificate)
    result = appraised(options, certificate)
    code = show_result(result, options.format, certificate_only=options.certificate_only)
    is_same, message = check_copy(certificate, options.base)
    complain(message + "\n")
    return code if is_same or code else 1


def appraised(options: argparse.Namespace, certificate: "str | Certificate") -> "AttestationResult":
    """What is to be said of `certificate` and the model, by the options."""
    if options.model is None:
        # Nothing to read, and no progress to tell of.
        return _appraised(options, certificate, None)
    from aicert.cli.progress import Progress

    with Progress(options.model, complain) as progress:
        return _appraised(options, certificate, progress.on_bytes)


def _appraised(
    options: argparse.Namespace,
    certificate: "str | Certificate",
    on_bytes: "Callable[[int], None] | None",
) -> "AttestationResult":
    from aicert.verifier import verify as api

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
        collateral=options.collateral,
        gpu_collateral=options.gpu_collateral,
        on_bytes=on_bytes,
    )


def show_result(
    result: "AttestationResult", form: str = "text", *, certificate_only: bool = False
) -> int:
    """Write the result to stdout as `text` or `json`; returns the exit code that it stands for."""
    # Imported when there is a result: other commands share these options.
    from aicert.cli import table

    if form == "json":
        write(table.json_text(result))
    else:
        write_lines(table.text(result, colour=use_colour(), columns=terminal_columns()))
    if certificate_only and result.verdict == "none" and result.certificate_consistent == "yes":
        return 0
    return result.exit_code
