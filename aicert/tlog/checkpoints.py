"""Checkpoints of logs, and witnesses' cosignatures (C2SP tlog-checkpoint, tlog-cosignature).

Promises: a checkpoint belongs to a log if the log's key signed it and it names that log as its
origin; a cosignature covers the whole text, so it is worthless for another log's checkpoint. Lines
after the third are signed with the rest and not judged. Left out: ML-DSA-44 cosignatures.
"""

from typing import Final

from aicert.errors import EvidenceError
from aicert.formats.fields import MAX_INT
from aicert.frozen import dataclass
from aicert.tlog.encoding import hash_of, number, to_base64
from aicert.tlog.notes import (
    COSIGNATURE,
    ED25519,
    MAX_KEY_NAME,
    SIGNATURE_BYTES,
    Note,
    VerifierKey,
    check_key_name,
)

TIME_BYTES: Final = 8
# The first and last time that a witness can give, in seconds since 1970: the years 2001 to 9998.
TIMES: Final = (978_307_200, 253_370_764_799)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How many leaves a log has, and the root of their tree (RFC 6962, 2.1)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """Return the text that is signed, without further lines."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n".encode()

    @classmethod
    def parse(cls, text: bytes) -> "Checkpoint":
        """Read a note's text; nothing is verified. Raises EvidenceError."""
        lines = text.decode().split("\n")
        # Nothing follows the last line feed; a note's text ends in one.
        if len(lines) < 4 or not all(lines[:-1]):
            raise EvidenceError("a checkpoint is not three lines: origin, size and root")
        origin, size, root = lines[:3]
        check_key_name(origin)
        return cls(
            origin=origin,
            size=number(size, "the size of a checkpoint"),
            root=hash_of(root, "the root of a checkpoint"),
        )


def open_checkpoint(data: bytes, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint that the log with `key` signed.

    Raises UndecidedError if the key signed nothing here; EvidenceError if the signature is not its
    own, or the signed text is not a checkpoint of that log.
    """
    return checkpoint_of(Note.parse(data), key)


def checkpoint_of(note: Note, key: VerifierKey) -> Checkpoint:
    """Like `open_checkpoint`, for a note that was already read."""
    key.check_kind(ED25519)
    note.verify(key)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != key.name:
        raise EvidenceError(
            f"a checkpoint is of another log\nfound     {checkpoint.origin[:MAX_KEY_NAME]!a}\n"
            f"expected  {key.name!a}"
        )
    return checkpoint


def cosigned_text(text: bytes, time: int) -> bytes:
    """Return the text that a witness signs (cosignature/v1).

    It says that at `time`, in seconds since 1970, the checkpoint with this text was the largest
    that the witness had seen from the log.
    """
    return f"cosignature/v1\ntime {time}\n".encode() + text


def cosignature(time: int, signature: bytes) -> bytes:
    """Return the content of a witness's line: the time, and its signature over `cosigned_text`."""
    return time.to_bytes(TIME_BYTES) + signature


def cosigned_at(note: Note, key: VerifierKey) -> tuple[int, ...]:
    """Return the times at which the witness with `key` cosigned a checkpoint, the earliest first.

    Raises UndecidedError if it did not cosign; EvidenceError if a signature in its name is not its
    own.
    """
    key.check_kind(COSIGNATURE)
    times = []
    for data in note.by(key):
        time = int.from_bytes(data[:TIME_BYTES])
        if len(data) != TIME_BYTES + SIGNATURE_BYTES or time > MAX_INT:
            raise EvidenceError(f"a cosignature of {key.name} is not a time and a signature")
        key.check(data[TIME_BYTES:], cosigned_text(note.text, time))
        times.append(time)
    return tuple(sorted(times))
