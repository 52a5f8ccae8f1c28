"""`aicert sign` and `aicert verify-signature`: OpenSSF Model Signing of any directory or file.

Exit codes as everywhere: 0 passed, 1 the evidence says no, 2 no verdict, 3 bad command line.
"""

import argparse
import importlib
import json
import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aicert.cli.terminal import add_format, complain, help_formatter
from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.text import safe

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from aicert.cli.terminal import Subparsers
    from aicert.signing.keys import Signer, Trusted


_SIGN = """\
Sign every file of DIR, or one file, with OpenSSF Model Signing; model_signing and cosign can verify
it.

  aicert sign model/ --key key.pem
  aicert sign model/ --key key.pem --certificate signer.pem --certificate-chain ca.pem
  aicert sign model/ --pkcs11 'pkcs11:token=T;object=K?module-path=/usr/lib/…' --password-env PIN

Git's files, the signature itself and whatever --ignore names are left out; the signature says so.
"""
_VERIFY = """\
Check that DIR, or one file, is exactly what somebody you trust has signed.

  aicert verify-signature model/ --key key.pub
  aicert verify-signature model/ --certificate-chain ca.pem --at 2026-08-21T09:14:07Z
  aicert verify-signature model/ --identity me@example.com --issuer https://accounts.google.com
  aicert verify-signature model/ --key key.pub --only model-00001-of-00004.safetensors

  aicert verify-signature model/ --key key.pub --ignore eval/ --ignore-unsigned

A certificate must be valid now, or at the time given with --at. An unsigned file fails, and so does
a changed one; --ignore and --ignore-unsigned make exceptions, which the verdict repeats.
"""
_EXITS = (
    "exit codes: 0 passed, 1 the signature or the files say no, 2 no verdict, 3 bad command line"
)
# Modules of aicert.signing that need further packages, and the extras that install them.
EXTRAS = {"sigstore_signer": "sigstore", "pkcs11_signer": "pkcs11", "tpm_signer": "tpm"}
# A command whose output `--digests` reads: every file, sorted by the bytes of its path.
_LISTING = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum"


def add_commands(commands: "Subparsers") -> None:
    """Add this module's commands to the parser of `aicert`."""
    sign = commands.add_parser(
        "sign",
        help="sign a model or data directory (OMS)",
        description=_SIGN,
        formatter_class=help_formatter,
    )
    add = sign.add_argument
    add("target", metavar="DIR", help="the directory, or one file")
    add("--signature", metavar="FILE", help="where to write; DIR/model.sig, or FILE.sig")
    by = sign.add_mutually_exclusive_group(required=True).add_argument
    by("--key", metavar="PEM", help="your private key: P-256, P-384 or P-521")
    by("--pkcs11", metavar="URI", help="a key in a token (RFC 7512), with module-path")
    by("--tpm", metavar="HANDLE", help="a persistent key of this computer's TPM, like 0x81010002")
    by("--sigstore", action="store_true", help="keyless: your identity goes into a public log")
    add("--password-env", metavar="NAME",
        help="environment variable with the key's password, PIN or authorisation; with --sigstore"
        " an identity token")  # fmt: skip
    add("--trust-config", metavar="FILE", help="a Sigstore instance other than the public one")
    add("--certificate", metavar="PEM", help="the key's X.509 certificate, to include")
    add("--certificate-chain", metavar="PEM", action="append", default=[], help="its issuers")
    add("--ignore", metavar="PATH", action="append", default=[], help="leave this path out")
    add("--hash", choices=("sha256", "blake3"), default="sha256", help="%(default)s if not given")
    add("--shard-size", metavar="BYTES", type=int, help="sign files in parts of this many bytes")
    add("--allow-symlinks", action="store_true",
        help="sign a link to a file of DIR as that file; the signature says so")  # fmt: skip
    add("--cache", metavar="FILE", help="do not read unchanged files again")
    add(
        "--digests",
        metavar="FILE",
        help="take digests from this sha256sum listing, without reading files",
    )
    add_format(sign)
    sign.set_defaults(run=_sign)
    verify = commands.add_parser(
        "verify-signature",
        help="check a signature of a model or data directory (OMS)",
        description=_VERIFY,
        epilog=_EXITS,
        formatter_class=help_formatter,
    )
    add = verify.add_argument
    add("target", metavar="DIR", help="the directory, or one file")
    add("--signature", metavar="FILE", help="the signature; DIR/model.sig or FILE.sig if not given")
    add("--key", metavar="PUB", help="the public key that you trust (PEM)")
    add("--certificate-chain", metavar="PEM", action="append", default=[],
        help="certificates that you trust to certify signers")  # fmt: skip
    add("--at", metavar="TIME", help="judge certificates at this time, not now")
    add("--identity", metavar="ID", help="the identity that you trust: email address or URI")
    add("--issuer", metavar="URL", help="the OpenID provider that vouches for ID")
    add("--trusted-root", metavar="FILE", help="Sigstore's root, if not the one installed here")
    add("--only", metavar="PATH", action="append", default=[], help="verify only this file")
    add("--ignore", metavar="PATH", action="append", default=[],
        help="do not look at this path, signed or not; the verdict says so")  # fmt: skip
    add("--ignore-unsigned", action="store_true",
        help="let unsigned files pass; the verdict lists them")  # fmt: skip
    add("--allow-symlinks", action="store_true",
        help="read a link to a file of DIR as that file; the verdict lists it")  # fmt: skip
    add_format(verify)
    verify.set_defaults(run=_verify)


def _sign(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    from aicert.cli.progress import Progress
    from aicert.signing import sign as signing
    from aicert.signing.forms import Form
    from aicert.text import counted

    form = Form(hash=options.hash, part=options.shard_size, links=options.allow_symlinks)
    signer = _signer(options)
    digests = None if options.digests is None else _digests(options)
    with Progress(options.target, complain) as progress:
        signed = signing.sign(
            options.target,
            signer,
            signature=options.signature,
            ignored=options.ignore,
            cache=options.cache,
            digests=digests,
            key=options.key,
            form=form,
            on_bytes=progress.on_bytes,
        )
    if options.format == "json":
        document = {
            "signature": os.fspath(signed.signature),
            "files": signed.files,
            "leftOut": list(signed.left_out),
            "notes": list(signed.notes),
        }
        write(json.dumps(document) + "\n")
        return 0
    for name in signed.left_out:
        write(f"left out  {safe(name)}\n")
    for note in signed.notes:
        write(f"note      {safe(note)}\n")
    write(f"signed    {counted(signed.files, 'file')}: {safe(str(_shown(signed.signature)))}\n")
    return 0


def _digests(options: argparse.Namespace) -> dict[str, str]:
    from aicert.files.bounded import read_bounded
    from aicert.formats.listing import MAX_LISTING, parse_listing

    hint = f"(cd {shlex.quote(options.target)} && {_LISTING}) > listing.sha256"
    try:
        return parse_listing(read_bounded(options.digests, MAX_LISTING, "listing"))
    except EvidenceError as error:
        raise ConfigError(f"--digests: {error.message}", hint=hint) from None


def _signer(options: argparse.Namespace) -> "Signer":
    from aicert.signing import keys

    secret = _password(options.password_env)
    if options.certificate is None and options.certificate_chain:
        raise ConfigError(
            "--certificate-chain goes with --certificate",
            hint="--certificate signer.pem --certificate-chain ca.pem",
        )
    if options.trust_config is not None and not options.sigstore:
        raise ConfigError("--trust-config goes with --sigstore")
    if options.sigstore:
        if options.certificate is not None:
            raise ConfigError("--certificate goes with your own key, not with --sigstore")
        keyless: Signer = _extra("sigstore_signer").load(secret, options.trust_config)
        return keyless
    signer: keys.KeySigner
    if options.pkcs11 is not None:
        signer = _extra("pkcs11_signer").load(options.pkcs11, secret)
    elif options.tpm is not None:
        signer = _extra("tpm_signer").load(options.tpm, secret)
    else:
        signer = keys.load_signer(options.key, password=secret)
    if options.certificate is None:
        return signer
    # Importing X.509 takes a third of the start-up time: only with certificates.
    from aicert.signing.x509_signers import certified

    return certified(signer, options.certificate, options.certificate_chain)


def _extra(module: str) -> Any:
    """Import a signer's module that needs further packages; ToolError if they are not installed."""
    try:
        return importlib.import_module(f"aicert.signing.{module}")
    except ModuleNotFoundError as error:
        raise ToolError(
            f"this needs the package {error.name}, which is not installed",
            hint=f"in a checkout of this project: pip install '.[{EXTRAS[module]}]'",
        ) from None


def _keyless(options: argparse.Namespace) -> "Callable[[bytes], Trusted] | None":
    if (options.identity is None) != (options.issuer is None):
        raise ConfigError(
            "--identity and --issuer go together: who signed, and who vouches for it",
            hint="--identity me@example.com --issuer https://accounts.google.com",
        )
    if "" in (options.identity, options.issuer):
        # In sigstore's policy, an empty issuer means any issuer.
        raise ConfigError("--identity and --issuer must not be empty")
    if options.identity is None:
        if options.trusted_root is not None:
            raise ConfigError("--trusted-root goes with --identity")
        return None
    trust = _extra("sigstore_signer").trust
    return lambda data: trust(data, options.identity, options.issuer, options.trusted_root)


def _verify(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    from aicert.cli.progress import Progress
    from aicert.signing import verify as verifying

    if options.at is not None and not options.certificate_chain:
        # A key has no validity period, and a keyless signature has the time of its log entry.
        raise ConfigError("--at goes with --certificate-chain")
    with Progress(options.target, complain) as progress:
        result = verifying.verify(
            options.target,
            at=_time(options.at),
            key=options.key,
            roots=options.certificate_chain,
            keyless=_keyless(options),
            signature=options.signature,
            only=options.only,
            ignoring=verifying.Ignoring(
                paths=tuple(options.ignore), unsigned=options.ignore_unsigned
            ),
            links=options.allow_symlinks,
            on_bytes=progress.on_bytes,
        )
    if options.format == "json":
        write(json.dumps(verifying.to_json(result), indent=2) + "\n")
    else:
        write(verifying.text(result))
    return result.exit_code


def _time(at: str | None) -> "datetime":
    from datetime import UTC, datetime

    if at is None:
        return datetime.now(UTC)
    # Loading the appraisal's modules takes a third of the start-up time: only if a time is given.
    from aicert.verifier.verify import time_of_appraisal

    return time_of_appraisal(at)


def _password(name: str | None) -> str | None:
    if name is None:
        return None
    if name not in os.environ:
        raise ConfigError(
            f"there is no environment variable {name[:80]!a}",
            hint="read -rs SECRET && export SECRET, then --password-env SECRET",
        )
    secret = os.environ[name]
    if not secret.isascii() and any("\ud800" <= c <= "\udfff" for c in secret):
        raise ConfigError(f"the environment variable {name[:80]!a} is not UTF-8")
    return secret


def _shown(path: "Path") -> "Path":
    try:
        here = path.cwd()
    except FileNotFoundError:
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path
