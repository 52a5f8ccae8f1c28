"""`aicert log find` and `aicert log page`: what is in a log, and which entries are verified.

An entry counts as verified if a certificate in --certificates passes the policy and has exactly
that entry. The other entries are claims of whoever logged them.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli.log.parts import add_log_key, facts, length, show, with_folder
from aicert.cli.terminal import complain
from aicert.errors import AicertError, ConfigError, EvidenceError
from aicert.files.bounded import why
from aicert.text import safe

if TYPE_CHECKING:
    from datetime import datetime

    from aicert.appraisal.policy import Policy
    from aicert.appraisal.result import AttestationResult
    from aicert.cli.terminal import Subparsers, Write
    from aicert.formats.certificate import Certificate
    from aicert.log.find import Hit

# The maximum number of certificates in a folder, since each of them is appraised.
MAX_CERTIFICATES = 1000
MAX_CERTIFICATE_BYTES = 1 << 28
MAX_SHOWN = 100
_FIND = """\
Search a log. This reads the whole log and checks it.

  aicert log find log/ --input dirHash:HEX          # what was made from these data
  aicert log find log/ --base dirHash:HEX           # what began from this model
  aicert log find log/ --output dirHash:HEX --certificates certificates/ \\
    --policy local --root .aicert/ca/local.pem

An entry is a claim of whoever logged it, unless its certificate is in --certificates and passes the
policy. A log holds only what was logged: an empty result shows nothing.
"""
_PAGE = """\
Write a log as one searchable page, which shows what was made from what. The page needs no server
and loads nothing.

  aicert log page log/ -o log.html --certificates certificates/ \\
    --policy local --root .aicert/ca/local.pem
"""
NOTHING = (
    "what nobody logged: an empty result shows nothing; a claim is the word of whoever logged it"
)


def add_commands(parts: "Subparsers") -> None:
    """Add these commands to those of `aicert log`."""
    parser = with_folder(parts, "find", "search a log", _FIND)
    add = parser.add_argument
    add("--input", metavar="DIGEST", help="runs that read these bytes: dirHash:HEX or sha256:HEX")
    add("--output", metavar="DIGEST", help="runs that wrote these bytes")
    add("--base", metavar="DIGEST", help="runs that began from this model")
    kinds = "the digest of a machine's image or runner, or its kind: urn:aicert:machine:qemu"
    add("--builder", metavar="WHAT", help=kinds)
    add("--certificate", metavar="DIGEST", help="the certificate with this core digest")
    add("--lockfile", metavar="DIGEST", help="runs with this lockfile")
    add("--named", metavar="TEXT", help="runs with an input whose source's name contains this")
    _add_certificates(parser)
    parser.set_defaults(run=_find)
    parser = with_folder(parts, "page", "write a log as one page", _PAGE)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the page")
    _add_certificates(parser)
    parser.set_defaults(run=_page)


def _add_certificates(parser: argparse.ArgumentParser) -> None:
    add_log_key(parser)
    add = parser.add_argument
    add("--certificates", metavar="DIR", help="certificates, at NAME.json or RUN/certificate.json")
    add("--policy", help="what they must pass: local, qemu, …, or a policy file")
    add("--root", metavar="PEM", help="the root of a simulated platform that you trust")
    add("--image-lock", metavar="L", help="the lock of a machine image that you accept")
    add("--at", metavar="TIME", help="judge the validity of X.509 certificates at this time")


def _verified(options: argparse.Namespace) -> dict[bytes, str]:
    """Return the entries of the certificates that pass, each with a description of the policy.

    Certificates that do not pass are named on stderr.
    """
    from aicert.tlog.entry import entry_of
    from aicert.verifier import verify as api

    if (options.certificates is None) != (options.policy is None):
        raise ConfigError("give --certificates and --policy together")
    if options.certificates is None:
        return {}
    policy = api.choose_policy(options.policy, root=options.root, image=options.image_lock)
    time = api.time_of_appraisal(options.at)
    given = _read(options.certificates)
    verified: dict[bytes, str] = {}
    for file, certificate in given.items():
        try:
            entry = entry_of(certificate)
            result = _appraised(certificate, list(given.values()), policy, time)
        except AicertError as error:
            _refuse(file, error.message)
            continue
        if result.certificate_consistent == "yes":
            verified[entry] = f"policy {policy.name}, tier {result.tier or 'none'}"
        else:
            first = [*result.failed, *result.undecided][0]
            _refuse(file, f"{first.id}: {first.detail}")
    return verified


def _appraised(
    certificate: "Certificate", given: "list[Certificate]", policy: "Policy", time: "datetime"
) -> "AttestationResult":
    """Appraise a certificate.

    If an input was another run's output, the given certificates are searched for that run's.
    """
    from aicert.appraisal.appraise import appraise
    from aicert.formats import lockfile

    inputs = lockfile.parse(certificate.lockfile).inputs
    is_made_from_another = any(item.source.startswith(lockfile.RUN_SCHEME) for item in inputs)
    ancestors = given if is_made_from_another else None
    return appraise(certificate, None, policy, at=time, ancestors=ancestors)


def _refuse(file: str, reason: str) -> None:
    complain(f"not verified: {safe(file)}: {safe(reason.partition(chr(10))[0])}\n")


def _read(folder: str) -> "dict[str, Certificate]":
    """Read the certificates in a folder; other files are named on stderr."""
    from aicert.formats import certificate as certificates
    from aicert.verifier.verify import read_certificate_file

    given: dict[str, Certificate] = {}
    room = MAX_CERTIFICATE_BYTES
    for file in _files(folder):
        try:
            data = read_certificate_file(file)
            given[file] = certificates.parse(data)
        except AicertError as error:
            _refuse(file, error.message)
            continue
        room -= len(data)
        if room < 0:
            raise EvidenceError(
                f"the certificates in {folder!a} have more than {MAX_CERTIFICATE_BYTES} bytes"
            )
    return given


def _files(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise EvidenceError(f"cannot read {folder!a}: {why(error)}") from None
    places = [os.path.join(folder, name, "certificate.json") for name in names]
    places += [os.path.join(folder, name) for name in names if name.endswith(".json")]
    # Whoever sent the folder may have put a FIFO there, and reading it would never end.
    files = [place for place in places if os.path.isfile(place)]
    if len(files) > MAX_CERTIFICATES:
        raise EvidenceError(f"{folder!a} holds more than {MAX_CERTIFICATES} certificates")
    return files


def _digest(text: str | None) -> str | None:
    from aicert.formats.digest import Digest

    if text is None:
        return None
    try:
        return str(Digest.parse(text))
    except EvidenceError as error:
        raise ConfigError(error.message, hint="dirHash:HEX or sha256:HEX, 64 digits") from None


def _find(options: argparse.Namespace, write: "Write") -> int:
    from aicert.log import find, tiles

    wanted = find.Criteria(
        certificate=_digest(options.certificate),
        lockfile=_digest(options.lockfile),
        input=_digest(options.input),
        output=_digest(options.output),
        base=_digest(options.base),
        builder=options.builder,
        named=options.named,
    )
    folder = Path(options.folder)
    key = tiles.read_key(folder, options.log_key)
    result = find.find(folder, key, wanted, _verified(options))
    checkpoint = result.signed.checkpoint
    lines: list[tuple[str, object]] = []
    for hit in result.hits[:MAX_SHOWN]:
        lines += _lines(hit)
    if len(result.hits) > MAX_SHOWN:
        lines.append(("", f"… and {len(result.hits) - MAX_SHOWN} more (--format json has all)"))
    if result.unreadable:
        what = _entries(result.unreadable)
        lines.append(("unread", f"{what} with these texts, which no entry of a certificate is"))
    lines += [length(checkpoint), ("Omits", NOTHING)]
    document = facts(checkpoint) | {
        "hits": [_to_json(hit) for hit in result.hits],
        "unreadable": result.unreadable,
        "omits": NOTHING,
    }
    return show(options, write, document, lines)


def _lines(hit: "Hit") -> list[tuple[str, object]]:
    entry = hit.entry
    word = "claim" if hit.verified is None else "verified"
    under = "" if hit.verified is None else f" ({hit.verified})"
    lines: list[tuple[str, object]] = [
        (word, f"entry {hit.index}: run {entry.run}, {entry.trainer}, {entry.builder}{under}"),
        ("", f"certificate {entry.certificate}"),
    ]
    for item in entry.inputs:
        base = ", the base" if item.name == entry.base else ""
        named = "" if item.uri is None else f", claimed to be {item.uri}"
        lines.append(("", f"input {item.name} {item.digest}{base}{named}"))
    lines += [("", f"output {item.name} {item.digest}") for item in entry.outputs]
    return lines


def _to_json(hit: "Hit") -> dict[str, object]:
    import json

    from aicert.tlog.entry import emit

    return {"index": hit.index, "verified": hit.verified, "entry": json.loads(emit(hit.entry))}


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _page(options: argparse.Namespace, write: "Write") -> int:
    from aicert.files.atomic import check_place, write_atomically
    from aicert.log import find, page, tiles

    check_place(Path(options.output))
    folder = Path(options.folder)
    key = tiles.read_key(folder, options.log_key)
    result = find.find(folder, key, find.Criteria(), _verified(options))
    write_atomically(
        Path(options.output), page.page(result, has_key=bool(options.log_key)).encode()
    )
    checkpoint = result.signed.checkpoint
    shown = min(len(result.hits), page.MAX_ENTRIES)
    verified = sum(hit.verified is not None for hit in result.hits)
    return show(
        options,
        write,
        facts(checkpoint) | {"shown": shown, "verified": verified},
        [
            length(checkpoint),
            ("page", f"{options.output}: {_entries(shown)}, {verified} of the log's verified"),
        ],
    )
