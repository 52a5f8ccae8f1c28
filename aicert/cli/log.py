"""`aicert log …`: keep a transparency log in a folder, and what others do with it.

A log's operator runs `init` and `append`; anybody runs `prove`, `check`, `mirror`, `find` and
`page` on the folder or a copy; a witness runs `witness`. Only `mirror` of a URL, `ask` and `bundle`
use the network: the folder is served by whatever serves files.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli import log_search, log_sigstore, log_witness
from aicert.cli.log_parts import EXITS, add_log_key, facts, length, log_server, show, with_folder
from aicert.cli.terminal import add_format, add_part
from aicert.errors import AicertError, ConfigError, EvidenceError
from aicert.text import counted

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers, Write

_LOG = """\
Keep a transparency log of certificates in a folder (C2SP tiles, checkpoints, cosignatures): people
find in it what was made from which data, and whoever kept a checkpoint notices if an entry is
changed or taken out.

  aicert log init log/ --origin log.example/models
  aicert log append log/ certificate.json
  aicert log prove log/ certificate.json --into
"""
_INIT = """\
Make an empty log, and its key beside the folder. The folder is for everybody: serve it, copy it to
an object store. The key and KEY.last, which has what the key signed last, are for nobody else.

  aicert log init log/ --origin log.example/models
"""
_APPEND = """\
Log certificates: of each, its digest and what people search for (lockfile, image, inputs and
outputs with their digests, names of sources). Anybody can read that. Whether a certificate is true
is not judged: a log shows that something was logged, and nothing else.

  aicert log append log/ certificates/*/certificate.json
  aicert log append log/ certificate.json --sigstore     # for `aicert log bundle`, too
"""
_PROVE = """\
Write the proof that the log has a certificate, under its checkpoint with the cosignatures that it
has now. With --into it goes into the certificate, for verifiers whose policy names the log.

  aicert log prove log/ certificate.json -o certificate.tlog-proof
  aicert log prove log/ certificate.json --into
"""
_CHECK = """\
Read the whole log: the entries must give the tiles, these the root, and the log's key must have
signed it. With an older checkpoint, the log must be that one, grown.

  aicert log check log/ --log-key KEY --against yesterday.checkpoint
"""
_MIRROR = """\
Copy a log, or bring a copy up to date, and check it on the way. A copy that was interrupted goes on
where it stopped. A source that has forked, or is older than the copy, is refused, and the copy
stays as it was.

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
    log_search.add_commands(parts)
    log_witness.add_commands(parts)
    log_sigstore.add_commands(parts)


def _add_keeping(parts: "Subparsers") -> None:
    parser = with_folder(parts, "init", "make an empty log", _INIT)
    add = parser.add_argument
    origin = "the log's name, which it keeps for good: a URL without https://"
    add("--origin", metavar="NAME", required=True, help=origin)
    add("--key", metavar="FILE", help="where to write its key; FOLDER.key if not given")
    parser.set_defaults(run=_init)
    parser = with_folder(parts, "append", "log certificates", _APPEND)
    add = parser.add_argument
    add("certificates", metavar="CERT", nargs="+", help="certificate files")
    add("--key", metavar="FILE", help="the log's key; FOLDER.key if not given")
    rekor = "log what `bundle` proves, too: the signature, as Sigstore's logs have it"
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
    parser = add_part(parts, "mirror", "copy a log, checked", _MIRROR, EXITS)
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
            ("key", f"{_key_file(options)}: keep it and what stands beside it out of {folder}"),
            ("public", key.public),
        ],
    )


def _key_file(options: argparse.Namespace) -> Path:
    from aicert.log import writer

    return writer.key_path(Path(options.folder)) if options.key is None else Path(options.key)


def _append(options: argparse.Namespace, write: "Write") -> int:
    from aicert.log import writer

    # All are read before one is logged: nothing is taken out of a log.
    entries = [
        entry
        for path in options.certificates
        for entry in _entries(path, sigstore=options.sigstore)
    ]
    appended = writer.append(Path(options.folder), _key_file(options), entries)
    known = len(set(appended.indices)) - appended.added
    had = f", and had {counted(known, 'other')} already" if known else ""
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
    """The entry of a certificate file, and that of its signature; of many files, an error says
    which.
    """
    from aicert.formats import certificate as certificates
    from aicert.log.sigstore import leaf_of
    from aicert.tlog.entry import entry_of
    from aicert.verifier.verify import read_certificate_file

    if Path(path).is_dir():
        hint = f"aicert log append FOLDER {Path(path) / '*' / 'certificate.json'}"
        raise EvidenceError(f"{path!a} is a folder, and no certificate's file", hint=hint)
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
    # Nobody's key is known here: anybody who writes to the folder can add a line.
    names = f"in the names of {', '.join(others)}; whoever verifies checks their keys"
    return show(
        options,
        write,
        {"index": index, "origin": key.name, "cosignatures": others},
        [
            ("proved", f"entry {index} of {key.name}"),
            ("cosigned", names if others else "by nobody yet: aicert log witness"),
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
        lines.append(("against", f"it began as {against} says"))
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
    # A copy stays one of the log that it began with.
    has_copy = (folder / tiles.CHECKPOINT).exists()
    is_served = options.source.startswith(("http://", "https://"))
    if is_served and not has_copy and options.log_key is None:
        raise ConfigError(
            "say whose log it is: a server's word is not enough",
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
