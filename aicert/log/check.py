"""Check that a folder holds a whole log, and the same one that somebody saw before.

Checking reads everything: entries give the tree, the tree gives every tile and the root, and the
log's key signed that root. Against an older checkpoint, the same tree must begin with it: a fork or
a rollback shows only in what others have kept.
"""

from pathlib import Path

from aicert.audits.merkle import leaf_hash, root_of
from aicert.errors import EvidenceError
from aicert.frozen import dataclass
from aicert.log.errors import BrokenLogError
from aicert.log.tiles import CHECKPOINT, Tiles, Visit, read_checkpoint, walk
from aicert.tlog import proofs
from aicert.tlog.checkpoints import Checkpoint
from aicert.tlog.notes import VerifierKey
from aicert.tlog.tree import check_consistency


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A checkpoint as it was signed, and what it says."""

    note: bytes
    checkpoint: Checkpoint


def check(
    folder: Path,
    key: VerifierKey,
    *,
    against: Path | None = None,
    compare: bool = True,
    visit: Visit | None = None,
) -> Seen:
    """Compute the whole log; BrokenLogError unless it is intact and continues `against`. `compare`:
    check its tiles too, and not only its entries. `visit`: see `walk`.
    """
    note, checkpoint = read_checkpoint(folder / CHECKPOINT, key)
    tiles = Tiles(folder, checkpoint.size)
    walk(tiles, checkpoint, visit, compare=compare)
    if against is not None:
        _, older = read_checkpoint(against, key)
        continues(tiles, checkpoint, older)
    return Seen(note=note, checkpoint=checkpoint)


def continues(tiles: Tiles, checkpoint: Checkpoint, older: Checkpoint) -> None:
    """Raise BrokenLogError unless the log with these tiles begins as the older checkpoint says.

    By the path between the two alone, as somebody computes it who has no tile.
    """
    if older.size > checkpoint.size:
        raise BrokenLogError(
            f"the log was rolled back: it has {checkpoint.size} entries, but had {older.size}"
        )
    path = tiles.consistency(older.size)
    try:
        check_consistency(older.size, older.root, checkpoint.size, checkpoint.root, path)
    except EvidenceError as error:
        raise BrokenLogError(
            f"the log has forked: its first {older.size} entries are not those that it had\n"
            f"{error.message}"
        ) from None


def prove(
    folder: Path, key: VerifierKey, entry: bytes, *, hint: str = "aicert log append FOLDER CERT"
) -> tuple[int, bytes]:
    """Which entry of the log it is, and the proof of it under the log's checkpoint as it is now.

    BrokenLogError where the log does not have it, or its tiles do not lead to its root.
    """
    note, checkpoint = read_checkpoint(folder / CHECKPOINT, key)
    tiles = Tiles(folder, checkpoint.size)
    index = tiles.indices([leaf_hash(entry)]).get(leaf_hash(entry))
    if index is None:
        raise BrokenLogError(
            f"it is not among the log's {checkpoint.size} entries",
            hint=hint,
        )
    path = tiles.inclusion(index)
    if root_of(entry, index, checkpoint.size, path) != checkpoint.root:
        raise BrokenLogError("the log is broken: its tiles do not give the root that it signed")
    return index, proofs.emit(proofs.Proof(index=index, path=path, checkpoint=note))
