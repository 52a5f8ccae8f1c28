"""Mirror a log: check it while copying, and continue an existing copy where it ends.

Tiles are not copied but computed from the entries. The copy's checkpoint is written last, once the
computed tree has the right root. If the source does not extend the copy, the copy stays as it was.
What an interrupted copy left is used again if it equals what the source has.
"""

from pathlib import Path

from aicert.frozen import dataclass
from aicert.log import durable
from aicert.log.check import continues
from aicert.log.errors import BrokenLogError
from aicert.log.tile_writer import Place, prune, put, put_bundle
from aicert.log.tiles import CHECKPOINT, ENTRIES, PUBLIC_KEY, Read, Tiles, opened, read_checkpoint
from aicert.log.tree import WIDTH, Edge, leaves
from aicert.tlog.checkpoints import Checkpoint
from aicert.tlog.notes import MAX_NOTE, VerifierKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """The result of a copy.

    `copied` counts the entries that were read from the source; the copy has all entries of
    `checkpoint`.
    """

    copied: int
    checkpoint: Checkpoint


def mirror(source: Path, folder: Path, key: VerifierKey, *, read: Read | None = None) -> Mirrored:
    """Create or update the copy in `folder`.

    Raises BrokenLogError if the source is not a complete log, or has forked. `read` reads the
    source's files if the source is not a folder.
    """
    durable.make(folder)
    with durable.alone(folder):
        if read is None:
            note, checkpoint = read_checkpoint(source / CHECKPOINT, key)
        else:
            served = read(CHECKPOINT, MAX_NOTE)
            if served is None:
                raise BrokenLogError(f"there is no log at {source}: it has no {CHECKPOINT}")
            note, checkpoint = served, opened(served, key)
        theirs = Tiles(source, checkpoint.size, read)
        edge = Edge()
        if (folder / CHECKPOINT).exists():
            _, before = read_checkpoint(folder / CHECKPOINT, key)
            continues(theirs, checkpoint, before)
            edge = Tiles(folder, before.size).edge()
            if edge.root() != before.root:
                raise BrokenLogError(
                    "the copy is broken: its tiles do not give the root that was signed",
                    hint="aicert log mirror SOURCE ANOTHER_FOLDER",
                )
        # Only now, because the folder might have been the copy of another log.
        durable.write(folder / PUBLIC_KEY, f"{key}\n".encode())
        copied, full = _copy(theirs, folder, edge)
        if edge.root() != checkpoint.root:
            raise BrokenLogError(
                "the source is broken: its entries do not give the root that it signed"
            )
        for tile in edge.partial():
            put(folder, tile)
        durable.write(folder / CHECKPOINT, note)
        prune(folder, full)
    return Mirrored(copied=copied, checkpoint=checkpoint)


def _copy(theirs: Tiles, folder: Path, edge: Edge) -> tuple[int, list[Place]]:
    """Add the source's new entries to the copy, with the tiles that they fill.

    Returns how many entries were read from the source, and the places of the tiles and bundles that
    became full.
    """
    copied, full = 0, list[Place]()
    first, begun = divmod(edge.size, WIDTH)
    # The leaf hashes of the copy's partial bundle. About later bundles nothing is known yet.
    known = bytes(edge.levels[0]) if begun else b""
    left = Tiles(folder, theirs.size)
    for number in range(first, -(-theirs.size // WIDTH)):
        kept = _left(left, theirs, number)
        entries = theirs.bundle(number) if kept is None else kept
        hashes = leaves(entries)
        # The root would not show the difference, because the tree continues from the copy's hashes.
        if not hashes.startswith(known):
            raise BrokenLogError(
                f"the source is broken: among entries {number * WIDTH} to {edge.size - 1} one is "
                "not what the copy has"
            )
        if kept is None:
            copied += len(entries)
            put_bundle(folder, number, entries)
        new, known = hashes[len(known) :], b""
        for tile in edge.extend(new):
            put(folder, tile)
            full.append((tile.level, tile.index))
        if len(entries) == WIDTH:
            full.append((ENTRIES, number))
    return copied, full


def _left(left: Tiles, theirs: Tiles, number: int) -> list[bytes] | None:
    """Return the bundle that an interrupted copy left; None unless it matches the source's tile."""
    try:
        entries = left.bundle(number)
        return entries if leaves(entries) == theirs.tile(0, number) else None
    except BrokenLogError:
        return None
