"""`aicert log witness`, `cosigned` and `ask`: make, add and request cosignatures.

A witness cosigns the log in a folder; the operator gets the cosignature as a file, or requests it
over HTTP (C2SP tlog-witness).
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aicert.cli.log.parts import add_log_key, facts, length, log_server, show, with_folder
from aicert.errors import ConfigError, EvidenceError

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers, Write
    from aicert.log.witness_client import Post
    from aicert.tlog.notes import VerifierKey

_WITNESS = """\
Cosign a log's checkpoint. This states that the log has only grown since this witness last cosigned
it, at the time of this computer's clock. KEY.seen records what was cosigned; keep it
as carefully as the key.

  aicert log witness log/ --key w.key --create witness.example/w1    # makes the key
  aicert log witness log/ --key w.key --log-key KEY
  aicert log witness copy/ --key w.key --log-key KEY -o cosigned     # for the operator:
  aicert log cosigned log/ cosigned

The first time, --log-key must say whose log it is; later the witness uses what it has seen. Without
-o the cosignature goes into the folder's checkpoint. A witness says nothing about what a log holds.
It should be somebody other than the log's operator.
"""
_COSIGNED = """\
Add a witness's cosignatures to the log's checkpoint, if it is still the same checkpoint.

  aicert log cosigned log/ cosigned
"""
_ASK = """\
Ask a witness over HTTP for its cosignature, and add it to the log's checkpoint (C2SP tlog-witness).
The witness gets the checkpoint and the proof that the log only grew. Its operator must know the log
and its key.

  aicert log ask log/ https://witness.example/ --witness-key witness.example/w1+4b7fca75+BA…
"""


def add_commands(parts: "Subparsers") -> None:
    """Add these commands to those of `aicert log`."""
    parser = with_folder(parts, "witness", "cosign a log's checkpoint", _WITNESS)
    add = parser.add_argument
    add("--key", metavar="FILE", required=True, help="the witness's key")
    add("--create", metavar="NAME", help="only make a key, for a witness of this name")
    add("-o", "--output", metavar="FILE", help="write the cosigned checkpoint there instead")
    add_log_key(parser)
    parser.set_defaults(run=_witness)
    parser = with_folder(parts, "cosigned", "add cosignatures to the checkpoint", _COSIGNED)
    parser.add_argument("cosigned", metavar="FILE", help="the file that `witness -o` wrote")
    add_log_key(parser)
    parser.set_defaults(run=_cosigned)
    parser = with_folder(parts, "ask", "ask a witness for its cosignature over HTTP", _ASK)
    add = parser.add_argument
    add("url", metavar="URL", help="the witness's address, without add-checkpoint")
    add("--witness-key", metavar="KEY", required=True, help="its key, NAME+ID+BASE64")
    add_log_key(parser)
    parser.set_defaults(run=_ask)


def _witness(options: argparse.Namespace, write: "Write") -> int:
    from aicert.crypto.x509 import stamp
    from aicert.files.atomic import check_place, write_atomically
    from aicert.log import keys, witness
    from aicert.tlog.notes import COSIGNATURE

    key_file, folder = Path(options.key), Path(options.folder)
    keys.check_apart(key_file, folder)
    if options.create is not None:
        key = keys.create(key_file, options.create, COSIGNATURE)
        return show(
            options, write, {"key": str(key.public)}, [("key", key_file), ("public", key.public)]
        )
    key = keys.read(key_file, COSIGNATURE)
    if options.output is not None:
        check_place(Path(options.output))
    log_key = witness.expected_key(folder, key_file, options.log_key)
    cosigned = witness.cosign(folder, key_file, key, log_key)
    if options.output is not None:
        write_atomically(Path(options.output), cosigned.note)
    else:
        witness.publish(folder, cosigned.note, log_key)
    before = "never cosigned it"
    if cosigned.before is not None:
        before = f"last cosigned it with {cosigned.before} entries"
    return show(
        options,
        write,
        facts(cosigned.checkpoint) | {"time": cosigned.time, "before": cosigned.before},
        [
            length(cosigned.checkpoint),
            ("cosigned", f"by {key.name}, at {stamp(datetime.fromtimestamp(cosigned.time, UTC))}"),
            ("before", f"this witness had {before}"),
        ],
    )


def _cosigned(options: argparse.Namespace, write: "Write") -> int:
    from aicert.files.bounded import read_bounded
    from aicert.log import tiles, witness
    from aicert.tlog.notes import MAX_NOTE

    folder = Path(options.folder)
    key = tiles.read_key(folder, options.log_key)
    data = read_bounded(options.cosigned, MAX_NOTE, "cosigned checkpoint")
    witness.publish(folder, data, key)
    return show(
        options, write, {"origin": key.name}, [("added", f"to the checkpoint of {key.name}")]
    )


def _ask(options: argparse.Namespace, write: "Write") -> int:
    from aicert.crypto.x509 import stamp
    from aicert.log import tiles, witness_client

    folder = Path(options.folder)
    witness = witness_key(options.witness_key, "--witness-key")
    post = poster(options.url)
    asked = witness_client.ask(folder, tiles.read_key(folder, options.log_key), witness, post)
    return show(
        options,
        write,
        facts(asked.checkpoint) | {"time": asked.time, "witness": witness.name},
        [
            length(asked.checkpoint),
            ("cosigned", f"by {witness.name}, at {stamp(datetime.fromtimestamp(asked.time, UTC))}"),
        ],
    )


def witness_key(text: str, where: str) -> "VerifierKey":
    """Parse a witness's public key; ConfigError if it is not one."""
    from aicert.tlog.notes import COSIGNATURE, VerifierKey

    try:
        return VerifierKey.parse(text, COSIGNATURE)
    except EvidenceError as error:
        raise ConfigError(f"{where}: {error.message}") from None


def poster(url: str) -> "Post":
    """Return a function that sends a request to the witness at `url`.

    Raises ConfigError, or ToolError if the package for HTTP is missing.
    """
    server = log_server()
    server.check_url(url)
    return lambda body: cast("tuple[int, bytes]", server.add_checkpoint(url, body))
