"""Read a log's folder: tiles, bundles of entries, and the proofs that tiles give.

Everything that is read is hostile and bounded: a file must have the size that its place implies, or
the log is broken. What is read proves nothing until a root that the log's key signed has been
computed from it.
"""

import os
import stat
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from aicert.audits.merkle import HASH_BYTES
from aicert.errors import ConfigError, EvidenceError
from aicert.files.bounded import read_bounded, why
from aicert.log.errors import BrokenLogError
from aicert.log.tree import HEIGHT, TILE_BYTES, WIDTH, Edge, Tile, fold, leaves
from aicert.tlog.checkpoints import Checkpoint, open_checkpoint
from aicert.tlog.entry import MAX_BYTES
from aicert.tlog.notes import ED25519, MAX_NOTE, VerifierKey
from aicert.tlog.tree import EMPTY_ROOT, node

CHECKPOINT: Final = "checkpoint"
# The log's public key, for those who have it from nowhere else. Checked with the key in its own
# folder, a log proves to be complete, but not whose it is.
PUBLIC_KEY: Final = "log.vkey"
MAX_KEY: Final = 512
ENTRIES: Final = "entries"
_LENGTH: Final = 2
MAX_BUNDLE: Final = WIDTH * (_LENGTH + MAX_BYTES)


# Reads the file at a place in the log, up to a limit in bytes; None if there is no such file.
Read = Callable[[str, int], bytes | None]


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile or a bundle of entries.

    `width` is the number of hashes or entries; fewer than WIDTH make it a partial tile or bundle.
    """
    parts = [f"{index % 1000:03}"]
    while index := index // 1000:
        parts.insert(0, f"x{index % 1000:03}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(parts)}{partial}"


def pack(entries: list[bytes]) -> bytes:
    """Encode a bundle: each entry is preceded by its length."""
    return b"".join(len(entry).to_bytes(_LENGTH) + entry for entry in entries)


def unpack(data: bytes, width: int) -> tuple[list[bytes], int]:
    """Return the first `width` entries of a bundle, and the offset where they end.

    If the bundle is cut short, the offset is past the end of the data.
    """
    entries, at = [], 0
    for _ in range(width):
        start = at + _LENGTH
        at = start + int.from_bytes(data[at:start])
        entries.append(data[start:at])
    return entries, at


def read_key(folder: Path, given: str | None) -> VerifierKey:
    """Return the log's public key: the given one, or else the one in the folder."""
    if given is not None:
        return _given_key(given)
    data = read_bounded(folder / PUBLIC_KEY, MAX_KEY, "log key", hint="--log-key NAME+ID+BASE64")
    return VerifierKey.parse(data.decode("utf-8", "replace").removesuffix("\n"))


def _given_key(text: str) -> VerifierKey:
    """Parse a given key; ConfigError if it is not a log's key. The log itself is not read here."""
    try:
        return VerifierKey.parse(text, ED25519)
    except EvidenceError as error:
        hint = "--log-key NAME+ID+BASE64, as `aicert log init` prints it"
        raise ConfigError(f"--log-key: {error.message}", hint=hint) from None


def read_checkpoint(path: Path, key: VerifierKey) -> tuple[bytes, Checkpoint]:
    """Read the signed checkpoint at `path`, and return its bytes and its content.

    Raises BrokenLogError unless `key` signed it.
    """
    data = read_bounded(path, MAX_NOTE, CHECKPOINT)
    return data, opened(data, key)


def opened(data: bytes, key: VerifierKey) -> Checkpoint:
    """Return the content of a signed checkpoint; BrokenLogError unless `key` signed it."""
    try:
        return open_checkpoint(data, key)
    except EvidenceError as error:
        raise BrokenLogError(f"the checkpoint of the log is refused: {error.message}") from None


class Tiles:
    """The tiles and bundles of a log with `size` entries, in a folder or wherever `read` reads.

    Recently read tiles are cached.
    """

    def __init__(self, folder: Path, size: int, read: Read | None = None) -> None:
        self.folder = folder
        self.size = size
        self._content = read or _in(folder)
        self._kept: dict[tuple[int, int], bytes] = {}

    def width(self, level: int, index: int) -> int:
        """Return how many hashes a tile has in this log; 0 if the log has no such tile."""
        return max(0, min(WIDTH, (self.size >> HEIGHT * level) - index * WIDTH))

    def tile(self, level: int, index: int) -> bytes:
        """Return the hashes of a tile, concatenated."""
        kept = self._kept.get((level, index))
        if kept is None:
            # A path crosses one tile per level, and callers that read many start with neighbours.
            if len(self._kept) > 4 * HEIGHT:
                self._kept.clear()
            kept = self._kept[level, index] = self._read(level, index)
        return kept

    def _read(self, level: int, index: int) -> bytes:
        width = self.width(level, index)
        data, is_whole = self._file(level, index, width, TILE_BYTES)
        end = width * HASH_BYTES
        _require_size(data, end, tile_path(level, index, width), is_whole=is_whole)
        return data[:end]

    def _file(self, level: int | str, index: int, width: int, limit: int) -> tuple[bytes, bool]:
        """Return a file's data, and whether it has exactly this width.

        If a partial tile is gone, this reads the full one, which begins with the same hashes.
        """
        places = dict.fromkeys((tile_path(level, index, width), tile_path(level, index)))
        for number, place in enumerate(places):
            data = self._content(place, limit)
            if data is not None:
                return data, not number
        raise BrokenLogError(f"the log is broken: {next(iter(places))} is missing")

    def bundle(self, index: int) -> list[bytes]:
        """Return the entries of a bundle; the first has the number `256 * index`."""
        width = self.width(0, index)
        data, is_whole = self._file(ENTRIES, index, width, MAX_BUNDLE)
        entries, end = unpack(data, width)
        _require_size(data, end, tile_path(ENTRIES, index, width), is_whole=is_whole)
        return entries

    def edge(self) -> Edge:
        """Return the tree's right edge, computed from the tiles alone."""
        levels: list[bytes] = []
        while self.size >> HEIGHT * len(levels):
            count = self.size >> HEIGHT * len(levels)
            has_part = count % WIDTH
            levels.append(self.tile(len(levels), count // WIDTH) if has_part else b"")
        return Edge(self.size, levels)

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` leaves, computed from the tiles alone."""
        return self._subtree(0, size) if size else EMPTY_ROOT

    def _subtree(self, low: int, high: int) -> bytes:
        """Return the hash over the leaves from `low` up to, but not including, `high`.

        `low` must be a multiple of the smallest power of two that is at least `high - low`.
        """
        count = high - low
        if count & (count - 1) == 0:
            return self._node(count.bit_length() - 1, low // count)
        middle = low + (1 << (count - 1).bit_length() - 1)
        return node(self._subtree(low, middle), self._subtree(middle, high))

    def _node(self, height: int, index: int) -> bytes:
        """Return the hash over a complete subtree."""
        level, above = divmod(height, HEIGHT)
        first = index << above
        tile = self.tile(level, first // WIDTH)
        start = first % WIDTH * HASH_BYTES
        hashes = tile[start : start + (HASH_BYTES << above)]
        if len(hashes) != HASH_BYTES << above:
            raise BrokenLogError("the log is broken: a tile is smaller than the tree needs")
        return fold(hashes)

    def inclusion(self, index: int) -> tuple[bytes, ...]:
        """Return the path from a leaf to the root (RFC 6962, 2.1.1), lowest sibling first."""
        path: list[bytes] = []
        low, high = 0, self.size
        while high - low > 1:
            middle = low + (1 << (high - low - 1).bit_length() - 1)
            if index < middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low = middle
        return tuple(reversed(path))

    def consistency(self, old: int) -> tuple[bytes, ...]:
        """Return the path from the tree of the first `old` leaves to this one (RFC 6962, 2.1.2)."""
        path: list[bytes] = []
        low, high, is_whole = 0, self.size, True
        if not 0 < old < high:
            return ()
        while old != high:
            middle = low + (1 << (high - low - 1).bit_length() - 1)
            if old <= middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low, is_whole = middle, False
        if not is_whole:
            path.append(self._subtree(low, high))
        return tuple(reversed(path))

    def indices(self, wanted: Collection[bytes]) -> dict[bytes, int]:
        """Return the first index of each wanted leaf hash that the log has.

        Reads only the tiles, and each of them once.
        """
        left, indices = set(wanted), dict[bytes, int]()
        for number in range(-(-self.size // WIDTH)):
            if not left:
                break
            tile = self._read(0, number)
            for place in range(0, len(tile), HASH_BYTES):
                leaf = tile[place : place + HASH_BYTES]
                if leaf in left:
                    left.remove(leaf)
                    indices[leaf] = number * WIDTH + place // HASH_BYTES
        return indices


Visit = Callable[[int, list[bytes]], None]


def walk(
    tiles: Tiles, checkpoint: Checkpoint, visit: Visit | None = None, *, compare: bool = False
) -> None:
    """Read every entry and compute the tree; BrokenLogError unless it has the checkpoint's root.

    `visit` is called with the index of the first entry of each bundle, and with the entries, before
    the root is known: what it collects may be used only after this function has returned.
    `compare`: the tiles must also be those of the computed tree.
    """
    edge = Edge()
    for number in range(-(-tiles.size // WIDTH)):
        entries = tiles.bundle(number)
        for tile in edge.extend(leaves(entries)):
            if compare:
                _compare(tiles, tile)
        if visit is not None:
            visit(number * WIDTH, entries)
    if edge.root() != checkpoint.root:
        raise BrokenLogError(
            "the log is broken: its entries do not give the root that it signed\n"
            f"signed    {checkpoint.root.hex()}\ncomputed  {edge.root().hex()}"
        )
    for tile in edge.partial() if compare else ():
        _compare(tiles, tile)


def _in(folder: Path) -> Read:
    return lambda place, limit: _content(folder / place, limit)


def _content(path: Path, limit: int) -> bytes | None:
    """Return a file's bytes, or None if there is no file; BrokenLogError if it cannot be read.

    The size is checked first: making room for the largest possible bundle a million times would
    cost more than reading the files. Whoever sent the folder may have put a FIFO there, so only
    regular files are opened.
    """
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            raise BrokenLogError(
                f"the log is broken: {os.fspath(path)!a} is not a file of the expected size"
            )
        with open(path, "rb") as file:
            return file.read(facts.st_size)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokenLogError(f"cannot read {os.fspath(path)!a}: {why(error)}") from None


def _require_size(data: bytes, end: int, where: str, *, is_whole: bool) -> None:
    if end > len(data) or (is_whole and end != len(data)):
        raise BrokenLogError(
            f"the log is broken: {where} does not have the size that its place requires"
        )


def _compare(tiles: Tiles, tile: Tile) -> None:
    if tiles.tile(tile.level, tile.index) != tile.hashes:
        where = tile_path(tile.level, tile.index, tile.width)
        raise BrokenLogError(f"the log is broken: {where} does not hold the hashes of its entries")
