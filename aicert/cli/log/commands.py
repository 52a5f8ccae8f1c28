"""`aicert log …`: keep a transparency log in a folder, check it, mirror it, search it.

A log's operator runs `init` and `append`; anybody can run `prove`, `check`, `mirror`, `find` and
`page` on the folder or a copy; a witness runs `witness`. Only `mirror` of a URL, `ask` and `bundle`
use the network. Any web server for static files can serve the folder.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli.log import search, sigstore, witness
from aicert.cli.log.parts import EXITS, add_log_key, facts, length, log_server, show, with_folder
from aicert.cli.terminal import add_format, add_part
from aicert.errors import AicertError, ConfigError, EvidenceError
from aicert.text import counted

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers, Write

_LOG = """\
Keep a transparency log of certificates in a folder (C2SP tiles, checkpoints, cosignatures). It
shows what was made from which data, and whoever keeps a checkpoint notices if an entry is later
changed or removed.

  aicert log init log/ --origin log.example/models
  aicert log append log/ certificate.json
  aicert log prove log/ certificate.json --into
"""
_INIT = """\
Make an empty log, and its key beside the folder. The folder is public: serve it, or copy it to an
object store. Keep the key to yourself, and KEY.last, which holds what the key signed last.

  aicert log init log/ --origin log.example/models
"""
_APPEND = """\
Log certificates: for each, its digest and what people search for (lockfile, image, inputs and
outputs with their digests, names of sources). Anybody can read that. Certificates are not judged: a
log shows only that something was logged.

  aicert log append log/ certificates/*/certificate.json
  aicert log append log/ certificate.json --sigstore     # for `aicert log bundle`, too
"""
_PROVE = """\
Write the proof that the log has a certificate, with the log's checkpoint and its present
cosignatures. With --into the proof goes into the certificate, for verifiers whose policy names the
log.

  aicert log prove log/ certificate.json -o certificate.tlog-proof
  aicert log prove log/ certificate.json --into
"""
_CHECK = """\
Read the whole log: entries must match tiles, tiles must match the root, and the log's key must have
signed that. With an older checkpoint, the log must begin with the log of that checkpoint.

  aicert log check log/ --log-key KEY --against yesterday.checkpoint
"""
_MIRROR = """\
Copy a log, or update a copy, and check it on the way. An interrupted copy continues where it
stopped. A source that has forked, or is older than the copy, is refused, and the copy stays as it
was.

  aicert log mirror /mnt/log copy/ --log-key KEY
  aicert log mirror https://log.example/models copy/ --log-key KEY
"""


def add_command(commands: "Subparsers") -> None:
    """Add `log` and its commands to the parser of `aicert`."""
    line = "keep, check and search a transparency log of certificates"
    log = add_part(commands, "log", line, _LOG, EXITS)
    parts = log.add_subparsers(dest="part", required=True, metavar="COMMAND")
    _add_keeping(parts)
    _add_reading(parts)
    search.add_commands(parts)
    witness.add_commands(parts)
    sigstore.add_commands(parts)


def _add_keeping(parts: "Subparsers") -> None:
    parser = with_folder(parts, "init", "make an empty log", _INIT)
    add = parser.add_argument
    origin = "the log's name, which never changes: a URL without https://"
    add("--origin", metavar="NAME", required=True, help=origin)
    add("--key", metavar="FILE", help="where to write its key; FOLDER.key if not given")
    parser.set_defaults(run=_init)
    parser = with_folder(parts, "append", "log certificates", _APPEND)
    add = parser.add_argument
    add("certificates", metavar="CERT", nargs="+", help="certificate files")
    add("--key", metavar="FILE", help="the log's key; FOLDER.key if not given")
    rekor = "also log the signature, in the form of Sigstore's logs, for `bundle`"
    add("--sigstore", action="store_true", help=rekor)
    parser.set_defaults(run=_append)


def _add_reading(parts: "Subparsers") -> None:
    parser = with_folder(parts, "prove", "prove that the log has a certificate", _PROVE)
    add = parser.add_argument
    add("certificate", metavar="CERT", help="the certificate file")
    add("-o", "--output", metavar="FILE", help="write the proof there")
    add("--into", action="store_true", help="add it to the certificate file, which is replaced")
    add_log_key(parser)
    parser.set_defaults(run=_prove)
    parser = with_folder(parts, "check", "check the whole log", _CHECK)
    parser.add_argument("--against", metavar="FILE", help="a checkpoint that you kept")
    add_log_key(parser)
    parser.set_defaults(run=_check)
    parser = add_part(parts, "mirror", "copy a log and check it", _MIRROR, EXITS)
    parser.add_argument("source", metavar="SOURCE", help="the log's folder, or its URL")
    parser.add_argument("folder", metavar="FOLDER", help="the copy's folder")
    add_log_key(parser)
    add_format(parser)
    parser.set_defaults(run=_mirror)


def _init(options: argparse.Namespace, write: "Write") -> int:
    from aicert.log import writer

    folder = Path(options.folder)
    key = writer.start(folder, options.origin, _key_file(options))
    return show(
        options,
        write,
        {"origin": key.name, "key": str(key.public)},
        [
            ("log", f"{folder}, of origin {key.name}"),
            ("key", f"{_key_file(options)}: keep it and the file beside it out of {folder}"),
            ("public", key.public),
        ],
    )


def _key_file(options: argparse.Namespace) -> Path:
    from aicert.log import writer

    return writer.key_path(Path(options.folder)) if options.key is None else Path(options.key)


def _append(options: argparse.Namespace, write: "Write") -> int:
    from aicert.log import writer

    # Read all certificates before logging any: nothing can be removed from a log.
    entries = [
        entry
        for path in options.certificates
        for entry in _entries(path, sigstore=options.sigstore)
    ]
    appended = writer.append(Path(options.folder), _key_file(options), entries)
    known = len(set(appended.indices)) - appended.added
    had = f", and already had {counted(known, 'other')}" if known else ""
    what = counted(len(options.certificates), "certificate")
    if options.sigstore:
        what = f"{2 * len(options.certificates)} entries of {what}"
    return show(
        options,
        write,
        {"indices": list(appended.indices), "added": appended.added} | facts(appended.checkpoint),
        [
            ("added", f"{appended.added} of {what}{had}"),
            length(appended.checkpoint),
            ("root", appended.checkpoint.root.hex()),
        ],
    )


def _entries(path: str, *, sigstore: bool) -> list[bytes]:
    """Return the log entry of a certificate file, and with `sigstore` that of its signature.

    Errors name the file, since a command may have many.
    """
    from aicert.formats import certificate as certificates
    from aicert.log.sigstore import leaf_of
    from aicert.tlog.entry import entry_of
    from aicert.verifier.verify import read_certificate_file

    if Path(path).is_dir():
        hint = f"aicert log append FOLDER {Path(path) / '*' / 'certificate.json'}"
        raise EvidenceError(f"{path!a} is a folder, not a certificate file", hint=hint)
    data = read_certificate_file(path)
    try:
        certificate = certificates.parse(data)
        return [entry_of(certificate), *([leaf_of(certificate)] if sigstore else [])]
    except AicertError as error:
        raise EvidenceError(f"{path!a}: {error.message}", hint=error.hint) from None


def _prove(options: argparse.Namespace, write: "Write") -> int:
    from aicert.cli.timestamp import with_stamp
    from aicert.files.atomic import check_place, write_atomically
    from aicert.formats.certificate import emit
    from aicert.log import check, tiles
    from aicert.tlog import proofs
    from aicert.tlog.entry import entry_of
    from aicert.tlog.notes import Note
    from aicert.verifier.verify import read_certificate

    if options.into == (options.output is not None):
        raise ConfigError("the proof goes into a file, or into the certificate: -o FILE or --into")
    if options.into and options.certificate == "-":
        raise ConfigError("the proof is added to a file: name it")
    place = Path(options.certificate if options.into else options.output)
    check_place(place)
    certificate = read_certificate(options.certificate)
    folder = Path(options.folder)
    key = tiles.read_key(folder, options.log_key)
    index, proof = check.prove(folder, key, entry_of(certificate))
    data = proof
    if options.into:
        stamp = proofs.encode(proof)
        is_there = stamp in certificate.evidence.timestamps
        data = emit(certificate if is_there else with_stamp(certificate, stamp))
    write_atomically(place, data)
    note = Note.parse(proofs.parse(proof).checkpoint)
    others = [line.name for line in note.signatures if line.name != key.name]
    # The keys of these witnesses are not known here: anybody who can write to the folder can add a
    # line.
    names = f"in the names of {', '.join(others)}; verifiers check their keys"
    return show(
        options,
        write,
        {"index": index, "origin": key.name, "cosignatures": others},
        [
            ("proved", f"entry {index} of {key.name}"),
            ("cosigned", names if others else "none yet: aicert log witness"),
            ("written", place),
        ],
    )


def _check(options: argparse.Namespace, write: "Write") -> int:
    from aicert.log import check, tiles

    folder = Path(options.folder)
    key = tiles.read_key(folder, options.log_key)
    against = None if options.against is None else Path(options.against)
    seen = check.check(folder, key, against=against)
    lines = [length(seen.checkpoint), ("root", seen.checkpoint.root.hex())]
    if against is not None:
        lines.append(("against", f"it begins with the log of {against}"))
    lines.append(("Omits", _omitted(options, against)))
    return show(options, write, facts(seen.checkpoint) | {"key": str(key)}, lines)


def _omitted(options: argparse.Namespace, against: Path | None) -> str:
    if options.log_key is None:
        return "whose log it is: its key came with it (--log-key)"
    if against is None:
        return "whether others see the same log (--against, or a witness)"
    return "whether what its entries say is true"


def _mirror(options: argparse.Namespace, write: "Write") -> int:
    from aicert.log import mirror, tiles

    source, folder = Path(options.source), Path(options.folder)
    # A copy always belongs to the log with which it began.
    has_copy = (folder / tiles.CHECKPOINT).exists()
    is_served = options.source.startswith(("http://", "https://"))
    if is_served and not has_copy and options.log_key is None:
        raise ConfigError(
            "say whose log it is: a server's own claim is not enough",
            hint="--log-key KEY, as the operator published it",
        )
    key = tiles.read_key(folder if has_copy else source, options.log_key)
    if is_served:
        with log_server().LogSite(options.source) as site:
            mirrored = mirror.mirror(source, folder, key, read=site.read)
    else:
        mirrored = mirror.mirror(source, folder, key)
    return show(
        options,
        write,
        facts(mirrored.checkpoint) | {"copied": mirrored.copied, "key": str(key)},
        [
            length(mirrored.checkpoint),
            ("copied", f"{mirrored.copied} entries"),
            ("root", mirrored.checkpoint.root.hex()),
        ],
    )
