"""Append to a log. If the writer is killed, the folder still holds a complete log, and the next run
continues.

A log promises by its signature that it only grows, and the order of writes keeps that promise:
tiles and bundles are on the disk first; then the new checkpoint beside the key, `KEY.last`; then
the folder's checkpoint. Nothing is ever appended to a folder that is older than what the key signed
last (a restored backup): that would be a fork, which no witness forgives. What a killed append left
lies past the checkpoint, where nobody looks, and is written again.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aicert.audits.merkle import leaf_hash
from aicert.errors import ConfigError, EvidenceError
from aicert.frozen import dataclass
from aicert.log import durable, keys
from aicert.log.errors import BrokenLogError
from aicert.log.tile_writer import Place, prune, put, put_bundle
from aicert.log.tiles import CHECKPOINT, ENTRIES, PUBLIC_KEY, Tiles, read_checkpoint
from aicert.log.tree import WIDTH, Edge, leaves
from aicert.tlog.checkpoints import Checkpoint
from aicert.tlog.notes import ED25519, signature_line
from aicert.tlog.tree import EMPTY_ROOT

_LAST: Final = ".last"


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """The result of appending.

    `indices` has the index of each given entry, in the given order; `added` is the number of
    entries that are new.
    """

    indices: tuple[int, ...]
    added: int
    checkpoint: Checkpoint


def key_path(folder: Path) -> Path:
    """Return the default path of the key for the log in `folder`, which is beside the folder."""
    if folder.name in ("", ".."):
        folder = Path(os.path.abspath(folder))
    if not folder.name:
        raise ConfigError(f"nothing lies beside {os.fspath(folder)!a}", hint="--key FILE")
    return folder.with_name(folder.name + ".key")


def start(folder: Path, origin: str, key_file: Path) -> keys.PrivateKey:
    """Create an empty log and its key.

    Finishes a creation that was interrupted, and refuses anything else that is there.
    """
    keys.check_apart(key_file, folder)
    with durable.alone(key_file.parent):
        return _start(folder, origin, key_file)


def _start(folder: Path, origin: str, key_file: Path) -> keys.PrivateKey:
    if (folder / CHECKPOINT).exists():
        raise ConfigError(f"there is already a log at {os.fspath(folder)!a}")
    if key_file.exists():
        key = keys.read(key_file, ED25519)
        if key.name != origin:
            raise ConfigError(f"{os.fspath(key_file)!a} is the key of {key.name!a}")
        # The key may have signed an empty log whose folder was never made, but no other log.
        if _last(key_file).exists() and read_checkpoint(_last(key_file), key.public)[1].size:
            raise ConfigError(f"the key {os.fspath(key_file)!a} has already signed a log")
    else:
        key = keys.create(key_file, origin, ED25519)
    durable.write(folder / PUBLIC_KEY, f"{key.public}\n".encode())
    _publish(folder, key_file, key, Checkpoint(origin=origin, size=0, root=EMPTY_ROOT))
    return key


def append(folder: Path, key_file: Path, entries: Sequence[bytes]) -> Appended:
    """Append those `entries` that the log does not have yet, and sign the new checkpoint."""
    keys.check_apart(key_file, folder)
    key = keys.read(key_file, ED25519)
    # This lock first: two writers with the same key and a copy of the folder would sign a fork.
    with durable.alone(key_file.parent), durable.alone(folder):
        before = _continued(folder, key_file, key)
        tiles = Tiles(folder, before.size)
        edge = _edge(tiles, before)
        distinct = {entry: leaf_hash(entry) for entry in entries}
        known = tiles.indices(distinct.values())
        new = [entry for entry, leaf in distinct.items() if leaf not in known]
        known |= {distinct[entry]: index for index, entry in enumerate(new, before.size)}
        checkpoint = before
        if new:
            full = _write(tiles, edge, new)
            checkpoint = Checkpoint(origin=key.name, size=edge.size, root=edge.root())
            _publish(folder, key_file, key, checkpoint)
            prune(folder, full)
    indices = tuple(known[distinct[entry]] for entry in entries)
    return Appended(indices=indices, added=len(new), checkpoint=checkpoint)


def _continued(folder: Path, key_file: Path, key: keys.PrivateKey) -> Checkpoint:
    """Return the checkpoint that the key signed last, which must belong to this folder's log.

    If the writer was killed between writing the two checkpoints, update the folder's one.
    """
    try:
        data, last = read_checkpoint(_last(key_file), key.public)
    except EvidenceError as error:
        raise EvidenceError(
            f"it is unknown what the key signed last: {error.message}",
            hint="compare the folder's checkpoint with what others have seen of the log; if it is "
            f"the newest, cp {folder / CHECKPOINT} {_last(key_file)}",
        ) from None
    _, here = read_checkpoint(folder / CHECKPOINT, key.public)
    if (here.size, here.root) == (last.size, last.root):
        return last
    if here.size >= last.size or Tiles(folder, here.size).root(here.size) != here.root:
        raise BrokenLogError(
            f"the log has {here.size} entries and its key signed {last.size} last: they are not "
            "the same log"
        )
    tiles = Tiles(folder, last.size)
    try:
        _edge(tiles, last)
    except BrokenLogError as error:
        raise BrokenLogError(
            f"the key signed {last.size} entries and the folder has {here.size}: it is older, and "
            f"an append would be a fork ({error.message})",
            hint="aicert log mirror COPY FOLDER, of a copy that has all",
        ) from None
    durable.write(folder / CHECKPOINT, data)
    return last


def _edge(tiles: Tiles, checkpoint: Checkpoint) -> Edge:
    """Return the tree's right edge, which must give the root that was signed."""
    edge = tiles.edge()
    if edge.root() != checkpoint.root:
        raise BrokenLogError(
            "the log is broken: its tiles do not give the root that it signed",
            hint="aicert log check FOLDER",
        )
    return edge


def _write(tiles: Tiles, edge: Edge, new: list[bytes]) -> list[Place]:
    """Write the bundles and tiles of the log with the new entries.

    Returns the places of the tiles and bundles that became full.
    """
    first, rest = divmod(tiles.size, WIDTH)
    begun = tiles.bundle(first) if rest else []
    if leaves(begun) != bytes(edge.levels[0] if rest else b""):
        raise BrokenLogError("the log is broken: its last entries are not those of its tiles")
    full: list[Place] = []
    entries = begun + new
    for start_ in range(0, len(entries), WIDTH):
        bundle, index = entries[start_ : start_ + WIDTH], first + start_ // WIDTH
        put_bundle(tiles.folder, index, bundle)
        if len(bundle) == WIDTH:
            full.append((ENTRIES, index))
    for tile in edge.extend(leaves(new)):
        put(tiles.folder, tile)
        full.append((tile.level, tile.index))
    for tile in edge.partial():
        put(tiles.folder, tile)
    return full


def _publish(folder: Path, key_file: Path, key: keys.PrivateKey, checkpoint: Checkpoint) -> None:
    text = checkpoint.text()
    note = text + b"\n" + signature_line(key.public, key.sign(text))
    durable.write(_last(key_file), note, mode=keys.MODE)
    durable.write(folder / CHECKPOINT, note)


def _last(key_file: Path) -> Path:
    return key_file.with_name(key_file.name + _LAST)
