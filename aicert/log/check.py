"""Check that a folder holds a complete log, and that it extends a log that was seen earlier.

Checking reads everything: the tree is computed from the entries, the tiles are compared with the
tree, and its root must be the one that the log's key signed. If an older checkpoint is given, the
same tree must begin with the older one: a fork or a rollback shows only in comparison with a
checkpoint that somebody kept.
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
class SignedCheckpoint:
    """A signed checkpoint: `note` has its bytes, `checkpoint` its content."""

    note: bytes
    checkpoint: Checkpoint


def check(
    folder: Path,
    key: VerifierKey,
    *,
    against: Path | None = None,
    compare: bool = True,
    visit: Visit | None = None,
) -> SignedCheckpoint:
    """Recompute a log from its entries, and return its checkpoint.

    Raises BrokenLogError unless the log is intact and extends the checkpoint at `against`, if one
    is given. `compare`: check the tiles too, and not only the entries. `visit`: see `walk`.
    """
    note, checkpoint = read_checkpoint(folder / CHECKPOINT, key)
    tiles = Tiles(folder, checkpoint.size)
    walk(tiles, checkpoint, visit, compare=compare)
    if against is not None:
        _, older = read_checkpoint(against, key)
        continues(tiles, checkpoint, older)
    return SignedCheckpoint(note=note, checkpoint=checkpoint)


def continues(tiles: Tiles, checkpoint: Checkpoint, older: Checkpoint) -> None:
    """Raise BrokenLogError unless the log with these tiles extends the older checkpoint.

    Uses only the consistency proof between the two, as somebody who has no tiles would.
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
    """Return an entry's index and its inclusion proof under the log's current checkpoint.

    Raises BrokenLogError if the log does not have the entry, or its tiles do not give its root.
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
