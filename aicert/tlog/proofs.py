"""Proofs that a log has an entry (C2SP tlog-proof), and how a certificate carries them.

A proof says nothing by itself: its verifier must have the entry, the log's key and the witnesses'
keys. `extra` is opaque and proves nothing; we write none.
"""

from typing import Final

from aicert.errors import EvidenceError
from aicert.frozen import dataclass
from aicert.tlog.encoding import hash_of, number, to_base64, unbase64
from aicert.tlog.notes import MAX_NOTE

FORM: Final = "c2sp.org/tlog-proof@v1"
# Prefixes in `evidence.timestamps`: of a proof of the certificate itself; of a checkpoint, after
# `not-before:HEX:`.
TLOG_PROOF: Final = "tlog-proof:"
CHECKPOINT: Final = "checkpoint:"
# The height of a tree with 2^63 leaves.
MAX_PATH: Final = 63
MAX_PROOF: Final = MAX_NOTE + (1 << 14)
_EXTRA, _INDEX = "extra ", "index "


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A proof that a log has an entry.

    `index`: the entry's leaf; `path`: the hashes, lowest sibling first; `checkpoint`: as signed.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes


def emit(proof: Proof) -> bytes:
    """Return the proof's bytes."""
    lines = [FORM, f"{_INDEX}{proof.index}", *map(to_base64, proof.path), "", ""]
    return "\n".join(lines).encode() + proof.checkpoint


def parse(data: bytes) -> Proof:
    """Read a proof; nothing is verified, and the checkpoint is not read. Raises EvidenceError."""
    if len(data) > MAX_PROOF:
        raise EvidenceError(f"a log's proof is larger than {MAX_PROOF} bytes")
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise EvidenceError("a log's proof is not ASCII before its checkpoint") from None
    if not blank or lines.pop(0) != FORM:
        raise EvidenceError(f"a log's proof does not begin with {FORM} or has no checkpoint")
    if lines and lines[0].startswith(_EXTRA):
        unbase64(lines.pop(0).removeprefix(_EXTRA), "the extra data of a proof")
    if not lines or not lines[0].startswith(_INDEX):
        raise EvidenceError("a log's proof has no index")
    index = number(lines.pop(0).removeprefix(_INDEX), "the index of a proof")
    if len(lines) > MAX_PATH:
        raise EvidenceError(f"the path of a proof has more than {MAX_PATH} hashes")
    path = tuple(hash_of(line, "a hash of a proof") for line in lines)
    return Proof(index=index, path=path, checkpoint=checkpoint)


def encode(proof: bytes) -> str:
    """Return the entry of `timestamps` that carries a proof of the certificate itself."""
    return TLOG_PROOF + to_base64(proof)


def decode(entry: str) -> bytes:
    """Return the proof in `tlog-proof:BASE64`."""
    return _decoded(entry, TLOG_PROOF, MAX_PROOF)


def encode_checkpoint(checkpoint: bytes) -> str:
    """Return the text that stands for a cosigned checkpoint in a `not-before` entry."""
    return CHECKPOINT + to_base64(checkpoint)


def decode_checkpoint(text: str) -> bytes:
    """Return the checkpoint in `checkpoint:BASE64`."""
    return _decoded(text, CHECKPOINT, MAX_NOTE)


def _decoded(text: str, prefix: str, limit: int) -> bytes:
    encoded = text.removeprefix(prefix)
    data = unbase64(encoded, prefix[:-1]) if len(encoded) <= 2 * limit else b""
    if not text.startswith(prefix) or not 0 < len(data) <= limit:
        raise EvidenceError(f"a time stamp is not {prefix}BASE64, or too long")
    return data
