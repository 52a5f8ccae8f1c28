"""`aicert verify`: appraise a certificate and the model that it is for, and show the result."""

import argparse
import os
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
    from collections.abc import Callable, Sequence

    from aicert.appraisal.checks.model import Model
    from aicert.appraisal.result import AttestationResult
    from aicert.cli.terminal import Subparsers, Write
    from aicert.cli.verify.conditions import Conditions
    from aicert.formats.certificate import Certificate
    from aicert.verifier.evidence import Given

_VERIFY = """\
Check that the model in MODEL_DIR was made from what its lockfile names, inside a measured machine.

  aicert verify certificate.json model/ --lockfile lockfiles/tiny-alpaca.lock.toml
  aicert verify certificate.json model/ --policy local --root .aicert/ca/local.pem

The policy is yours and says which platforms and machine images you accept: `default` requires a
cloud's virtual TPM, `confidential` one in a machine whose processor protects it; `local` and `qemu`
accept a simulated platform, whose root you give and whose operator could have forged the evidence;
anything else is the path of a policy file.

With --lineage, every input that is another run's output must have that run's certificate there, and
so on back to the first: PATH is a certificate, or a directory with RUN/certificate.json in it.

With --evidence, the result also shows what audits say about the rows that the model was trained on,
and what evaluations say about the model. Both count for the verdict if the policy demands them. DIR
has RUN/certificate.json for each run, and RUN/results.json for each run that makes results. You may
leave CERT out if it is in DIR. Other certificates there for the same lockfile, which `./doit
reproduce` makes, show who else ran it and got the same bytes.

  aicert verify model/ --evidence evidence/
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
    parser.add_argument(
        "--evidence",
        metavar="DIR",
        help="audits, evaluations and second runs to judge and show: a directory",
    )
    parser.add_argument(
        "--re-executed",
        action="store_true",
        help="pass only if a second run there, on another machine, wrote the same bytes",
    )
    add_format(parser)
    parser.set_defaults(run=_verify)


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for appraising (see `appraised`)."""
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
    add(
        "--lineage",
        metavar="PATH",
        action="append",
        help="certificates of the runs that this one builds on",
    )


def _verify(options: argparse.Namespace, _: "Write") -> int:
    if options.certificate_only and options.model is not None:
        raise ConfigError("--certificate-only and MODEL_DIR contradict each other")
    if options.evidence is not None:
        return _with_evidence(options)
    if options.re_executed:
        raise ConfigError("--re-executed needs --evidence", hint="--evidence reproductions/RUN")
    if options.base is None:
        result = appraised(options, options.certificate)
        return show_result(result, options.format, certificate_only=options.certificate_only)
    from aicert.cli.verify.base import check_copy
    from aicert.verifier.verify import read_certificate

    certificate = read_certificate(options.certificate)
    result = appraised(options, certificate)
    code = show_result(result, options.format, certificate_only=options.certificate_only)
    is_same, message = check_copy(certificate, options.base)
    complain(message + "\n")
    return code if is_same or code else 1


def _with_evidence(options: argparse.Namespace) -> int:
    if options.base is not None:
        raise ConfigError("--base and --evidence: ask for one at a time")
    from aicert.cli import table
    from aicert.cli.verify import section
    from aicert.cli.verify.conditions import conditions_of
    from aicert.verifier.evidence import read_evidence
    from aicert.verifier.verify import read_certificate

    given, refused = read_evidence(options.evidence)
    conditions = conditions_of(options, given)
    if options.model is None and os.path.isdir(options.certificate):
        certificate, result = _of_model(options, options.certificate, given, conditions)
    else:
        certificate = read_certificate(options.certificate)
        result = appraised(options, certificate, conditions)
    shown = section.gather(certificate, result, given, refused, conditions)
    if options.format == "json":
        write(table.json_text(result, evidence=shown.to_json()))
        code = exit_code(result, certificate_only=options.certificate_only)
    else:
        code = show_result(result, certificate_only=options.certificate_only, has_evidence=True)
        write_lines("".join(f"{line}\n" for line in shown.lines()))
    if options.re_executed and not code and not shown.again.has_re_execution:
        complain("no verdict: nothing shows that another machine gave these bytes, too\n")
        return 2
    return code


def _of_model(
    options: argparse.Namespace, model: str, given: "Sequence[Given]", conditions: "Conditions"
) -> "tuple[Certificate, AttestationResult]":
    """Find the model's certificate among those in the evidence, and appraise the model with it."""
    from aicert.cli.progress import Progress
    from aicert.cli.verify import evidence
    from aicert.verifier import verify as api

    if options.certificate_only:
        raise ConfigError("--certificate-only and MODEL_DIR contradict each other")
    with Progress(model, complain) as progress:
        files = api.read_model(model, progress.on_bytes)
    certificate = evidence.find(options.evidence, given, files)
    return certificate, _appraised(options, certificate, files, None, conditions)


def appraised(
    options: argparse.Namespace,
    certificate: "str | Certificate",
    conditions: "Conditions | None" = None,
) -> "AttestationResult":
    """Appraise `certificate` and the model under the options, and return the result.

    `conditions`: what the same options ask for, if they name evidence.
    """
    if options.model is None:
        # There is nothing to read, so there is no progress to show.
        return _appraised(options, certificate, None, None, conditions)
    from aicert.cli.progress import Progress

    with Progress(options.model, complain) as progress:
        return _appraised(options, certificate, options.model, progress.on_bytes, conditions)


def _appraised(
    options: argparse.Namespace,
    certificate: "str | Certificate",
    model: "str | Model | None",
    on_bytes: "Callable[[int], None] | None",
    conditions: "Conditions | None",
) -> "AttestationResult":
    from aicert.verifier import verify as api

    return api.check_files(
        certificate,
        model,
        policy=options.policy if conditions is None else conditions.policy,
        root=options.root if conditions is None else None,
        lockfile=options.lockfile,
        image=options.image_lock if conditions is None else None,
        nonce=options.nonce,
        at=options.at if conditions is None else conditions.at,
        lineage=options.lineage,
        collateral=options.collateral,
        gpu_collateral=options.gpu_collateral,
        audits=None if conditions is None else conditions.audits,
        on_bytes=on_bytes,
    )


def show_result(
    result: "AttestationResult",
    form: str = "text",
    *,
    certificate_only: bool = False,
    has_evidence: bool = False,
) -> int:
    """Write the result to stdout as `text` or `json`, and return its exit code.

    `has_evidence`: what evidence says is written after it.
    """
    # This is imported only when there is a result, since other commands share these options.
    from aicert.cli import table

    if form == "json":
        write(table.json_text(result))
    else:
        colour, columns = use_colour(), terminal_columns()
        write_lines(table.text(result, colour=colour, columns=columns, has_evidence=has_evidence))
    return exit_code(result, certificate_only=certificate_only)


def exit_code(result: "AttestationResult", *, certificate_only: bool = False) -> int:
    """Return the exit code for a result."""
    if certificate_only and result.verdict == "none" and result.certificate_consistent == "yes":
        return 0
    return result.exit_code
