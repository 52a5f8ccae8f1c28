"""Ask a witness for its cosignature (C2SP tlog-witness, `add-checkpoint`), on the log's side.

The request has the checkpoint, and the path from the tree that the witness saw last. If the request
is wrong about that tree's size, the answer names the right size. A cosignature counts only if the
key that the operator knows made it for this very checkpoint. How the request travels is not decided
here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from aicert.errors import EvidenceError, ToolError
from aicert.frozen import dataclass
from aicert.log.errors import BrokenLogError
from aicert.log.tiles import CHECKPOINT, Tiles, read_checkpoint
from aicert.log.witness import publish
from aicert.tlog.checkpoints import TIME_BYTES, TIMES, Checkpoint, cosigned_at
from aicert.tlog.encoding import number, to_base64
from aicert.tlog.notes import MAX_NOTE, Note, VerifierKey, signature_line

# The first answer may only name the size, and that may change between two requests.
MAX_TRIES: Final = 4
# Sends a request with this body; returns the status and the body of the answer.
Post = Callable[[bytes], tuple[int, bytes]]
_OK, _FORBIDDEN, _UNKNOWN, _CONFLICT, _FORKED = 200, 403, 404, 409, 422


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignedCheckpoint:
    """The checkpoint that the witness cosigned, and the time by the witness's clock."""

    checkpoint: Checkpoint
    time: int


def ask(folder: Path, log_key: VerifierKey, witness: VerifierKey, post: Post) -> CosignedCheckpoint:
    """Have a witness cosign the log's checkpoint, and put the cosignature into the folder.

    Raises BrokenLogError if the witness saw a different log, ToolError if it does not answer as a
    witness does, and EvidenceError if the cosignature is not by its key.
    """
    note, checkpoint = read_checkpoint(folder / CHECKPOINT, log_key)
    here = Note.parse(note)
    # Other people's lines do not concern this witness.
    own = b"".join(signature_line(log_key, data) for data in here.by(log_key))
    signed = here.text + b"\n" + own
    answer = _cosigned(Tiles(folder, checkpoint.size), checkpoint, signed, witness, post)
    time, line = cosigned_line(here, answer, witness)
    publish(folder, signed + line, log_key)
    return CosignedCheckpoint(checkpoint=checkpoint, time=time)


def _cosigned(
    tiles: Tiles, checkpoint: Checkpoint, signed: bytes, witness: VerifierKey, post: Post
) -> bytes:
    """Request the cosignature, and return the lines that the witness answers with."""
    old = 0
    for _ in range(MAX_TRIES):
        path = "".join(f"{to_base64(one)}\n" for one in tiles.consistency(old))
        status, body = post(f"old {old}\n{path}\n".encode() + signed)
        if status == _OK:
            return body
        if status != _CONFLICT:
            raise _refusal(status, checkpoint, witness)
        seen = seen_size(body, witness)
        if seen > checkpoint.size:
            raise BrokenLogError(
                f"{witness.name} has seen {seen} entries of {checkpoint.origin!a}, but there are "
                f"only {checkpoint.size}: the log was rolled back, or this is an old copy"
            )
        if seen == old:
            # The size was right, so the witness says that it saw a different tree.
            raise _refusal(_FORKED, checkpoint, witness)
        old = seen
    raise ToolError(
        f"{witness.name} names a different size each time that it is asked", hint="ask it again"
    )


def _refusal(status: int, checkpoint: Checkpoint, witness: VerifierKey) -> Exception:
    origin = checkpoint.origin
    if status == _FORKED:
        return BrokenLogError(
            f"{witness.name} says that the {checkpoint.size} entries here do not go on from those "
            f"that it saw of {origin!a}: the log has forked",
            hint="aicert log check FOLDER --against A_CHECKPOINT_THAT_SOMEBODY_KEPT",
        )
    words = {
        _UNKNOWN: f"{witness.name} does not know a log {origin!a}",
        _FORBIDDEN: f"{witness.name} knows a different key for the log {origin!a}",
    }
    hint = "give the log's key to whoever runs the witness" if status in words else None
    return ToolError(words.get(status, f"{witness.name} answers {status}"), hint=hint)


def seen_size(body: bytes, witness: VerifierKey) -> int:
    """Return the size that the witness says it saw; ToolError if the answer is not a number."""
    what = f"the size that {witness.name} saw"
    try:
        return number(body[:32].decode("ascii", "replace").removesuffix("\n"), what)
    except EvidenceError as error:
        raise ToolError(error.message) from None


def cosigned_line(here: Note, answer: bytes, witness: VerifierKey) -> tuple[int, bytes]:
    """Return the witness's latest cosignature in the answer: its time, and its line.

    Lines of other keys are left out.
    """
    if len(answer) > MAX_NOTE:
        raise ToolError(f"the answer of {witness.name} is larger than a note")
    try:
        given = Note.parse(here.text + b"\n" + answer)
    except EvidenceError as error:
        raise ToolError(f"{witness.name} does not cosign: {error.message}") from None
    times = cosigned_at(given, witness)
    if not TIMES[0] <= times[0] <= times[-1] <= TIMES[1]:
        # No verifier accepts such a line, and it would spoil a good line of the same key beside it.
        raise ToolError(f"the cosignature of {witness.name} has no real time")
    lines = {int.from_bytes(data[:TIME_BYTES]): data for data in given.by(witness)}
    return times[-1], signature_line(witness, lines[times[-1]])
