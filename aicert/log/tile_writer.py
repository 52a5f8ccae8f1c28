"""Write a log's tiles and bundles to a folder, and remove partial tiles that are complete now."""

import contextlib
from pathlib import Path

from aicert.log import durable
from aicert.log.tiles import ENTRIES, pack, tile_path
from aicert.log.tree import WIDTH, Tile

# The level of a tile, or ENTRIES, and its index there.
Place = tuple[int | str, int]


def put(folder: Path, tile: Tile) -> None:
    """Write a tile."""
    durable.write(folder / tile_path(tile.level, tile.index, tile.width), tile.hashes)


def put_bundle(folder: Path, index: int, entries: list[bytes]) -> None:
    """Write a bundle of entries."""
    durable.write(folder / tile_path(ENTRIES, index, len(entries)), pack(entries))


def prune(folder: Path, full: list[Place]) -> None:
    """Remove partial tiles that are now complete. Nobody needs them, so failures are ignored."""
    for level, index in full:
        parts = folder / f"{tile_path(level, index)}.p"
        for width in range(1, WIDTH):
            with contextlib.suppress(OSError):
                (parts / str(width)).unlink()
        with contextlib.suppress(OSError):
            parts.rmdir()
