"""A witness: it signs a log's checkpoint once it has seen that the log only grew.

Its state, a file beside its key, has the last checkpoint of each log that it cosigned, and is on
the disk before the cosignature is given out. A log that forks, or shows an older tree, is refused
for as long as the state is kept. A witness vouches for nothing else: not for what the entries say.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aicert.errors import ConfigError
from aicert.files.bounded import read_bounded
from aicert.formats.strict_json import Fields, dumps, loads
from aicert.frozen import dataclass
from aicert.log import durable
from aicert.log.check import continues
from aicert.log.errors import BrokenLogError
from aicert.log.keys import MODE, PrivateKey
from aicert.log.tiles import CHECKPOINT, Tiles, read_checkpoint, read_key
from aicert.tlog.checkpoints import Checkpoint, cosignature, cosigned_text, open_checkpoint
from aicert.tlog.encoding import MAX_SIZE, hash_of, to_base64
from aicert.tlog.notes import MAX_NOTE, Note, Signature, VerifierKey, signature_line

KIND: Final = "aicert-log-witness"
VERSION: Final = 1
# To witness more logs than this, use another program.
MAX_LOGS: Final = 1000
MAX_STATE: Final = 1 << 20
_STATE: Final = ".seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a witness knows about a log: the key that it was first given, and the last tree."""

    key: VerifierKey
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """A checkpoint with the cosignature below it.

    `before` is the log's size when it was cosigned the last time; None if it never was.
    """

    note: bytes
    checkpoint: Checkpoint
    time: int
    before: int | None


def state_path(key_file: Path) -> Path:
    """Return the path of the file with the witness's state."""
    return key_file.with_name(key_file.name + _STATE)


def expected_key(folder: Path, key_file: Path, given: str | None) -> VerifierKey:
    """Return the log's key: the given one, or else that of the log that was cosigned before.

    Raises ConfigError if there is neither. The key in the folder is not used: a witness that
    accepts anybody's key would vouch for anybody's log.
    """
    key = read_key(folder, given)
    if given is not None:
        return key
    known = _read(state_path(key_file)).get(key.name)
    if known is None:
        raise ConfigError(
            f"this witness has not seen {key.name!a} yet, and the only key given is the folder's",
            hint="compare it with what the operator published, then --log-key KEY",
        )
    return known.key


def cosign(
    folder: Path,
    key_file: Path,
    key: PrivateKey,
    log_key: VerifierKey,
    *,
    now: Callable[[], float] = time.time,
) -> Cosigned:
    """Cosign the folder's checkpoint, without changing the folder.

    Raises BrokenLogError unless the log has only grown since it was last cosigned.
    """
    with durable.alone(key_file.parent):
        logs = _read(state_path(key_file))
        note, checkpoint = read_checkpoint(folder / CHECKPOINT, log_key)
        known = logs.get(checkpoint.origin)
        if known is not None:
            if known.key != log_key:
                raise BrokenLogError(
                    f"{checkpoint.origin!a} does not have the key that was cosigned before\n"
                    f"found     {log_key}\nexpected  {known.key}"
                )
            older = Checkpoint(origin=checkpoint.origin, size=known.size, root=known.root)
            continues(Tiles(folder, checkpoint.size), checkpoint, older)
        elif len(logs) >= MAX_LOGS:
            raise BrokenLogError(f"this witness has {MAX_LOGS} logs already")
        logs[checkpoint.origin] = Log(key=log_key, size=checkpoint.size, root=checkpoint.root)
        durable.write(state_path(key_file), _emit(logs), mode=MODE)
        at = int(now())
        signed = key.sign(cosigned_text(Note.parse(note).text, at))
        line = signature_line(key.public, cosignature(at, signed))
        before = None if known is None else known.size
    return Cosigned(note=note + line, checkpoint=checkpoint, time=at, before=before)


def publish(folder: Path, cosigned: bytes, log_key: VerifierKey) -> None:
    """Put a cosigned checkpoint into the log's folder, unless the log has grown since.

    If it has grown, `prove` could no longer use the cosignature. Lines that others added meanwhile
    stay. Of each witness, the first and the last line are kept, since a note has room for few, and
    nobody needs the times between them.
    """
    given = Note.parse(cosigned)
    with durable.alone(folder):
        note, _ = read_checkpoint(folder / CHECKPOINT, log_key)
        here = Note.parse(note)
        if here.text != given.text:
            raise BrokenLogError("the log already has a newer checkpoint: cosign that one")
        lines = list(dict.fromkeys((*here.signatures, *given.signatures)))
        written = "".join(
            f"\u2014 {line.name} {to_base64(line.id + line.data)}\n" for line in _ends(lines)
        )
        data = here.text + b"\n" + written.encode()
        if len(data) > MAX_NOTE:
            raise BrokenLogError("the checkpoint has too many signatures")
        # A forged line in the log's own name would make the checkpoint invalid for everybody.
        open_checkpoint(data, log_key)
        durable.write(folder / CHECKPOINT, data)


def _ends(lines: list[Signature]) -> list[Signature]:
    """Return the first and the last line of each key."""
    places: dict[tuple[str, bytes], list[int]] = {}
    for place, line in enumerate(lines):
        places.setdefault((line.name, line.id), []).append(place)
    ends = {place for of_key in places.values() for place in (of_key[0], of_key[-1])}
    return [line for place, line in enumerate(lines) if place in ends]


def _emit(logs: dict[str, Log]) -> bytes:
    kept = {
        origin: {"key": str(log.key), "size": log.size, "root": to_base64(log.root)}
        for origin, log in logs.items()
    }
    return dumps({"kind": KIND, "version": VERSION, "logs": kept}) + b"\n"


def _read(path: Path) -> dict[str, Log]:
    """Read the witness's state. An unreadable one is an error: starting afresh would forgive a
    fork.
    """
    if not path.exists():
        return {}
    what = "what the witness has seen"
    data = read_bounded(path, MAX_STATE, what)
    fields = Fields(loads(data, what=what, max_bytes=MAX_STATE), what)
    fields.const("kind", KIND)
    fields.const("version", VERSION)
    kept = fields.fields("logs")
    fields.done()
    return {origin: _log(Fields(value, origin), what) for origin, value in kept.rest().items()}


def _log(fields: Fields, what: str) -> Log:
    log = Log(
        key=VerifierKey.parse(fields.text("key", max_length=512)),
        size=fields.integer("size", high=MAX_SIZE),
        root=hash_of(fields.text("root", max_length=44), what),
    )
    fields.done()
    return log
