"""Draw the rows that a loss is measured on, so that whoever chose the nonce cannot predict them.

Draw i takes the row whose number is SHA-256(seed ‖ i) modulo the number of rows, where i has 8
bytes and both numbers are big-endian; a row that was drawn before is skipped. Rows are numbered
through all data sets that are trained on, in the config's order. So the same seed draws the same
rows of the same inputs everywhere (docs/spec/loss.md). Slices of a split are not considered, so
rows outside a slice may be drawn.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CONTEXT = b"aicert loss sample v1\0"
# The child stops earlier; the surplus makes up for rows that training would leave out.
MOST_ROWS = 512
MOST_BYTES = 32 << 20
_BLOCK = 1 << 18
_CANONICAL = re.compile(r"(.+)-\d{5}-of-\d{5}\.jsonl")
_WORD = re.compile(r"[\w.]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The rows of the config's data set `key`[`index`], in `files` one after another."""

    key: str
    index: int
    files: tuple[Path, ...]


def seed(nonce: bytes, fresh: bytes) -> bytes:
    """Return the seed of a sample. `fresh`: 32 bytes that the TPM drew after the trainer ended."""
    return hashlib.sha256(CONTEXT + nonce + fresh).digest()


def sources(settings: Mapping[str, object], shown: Mapping[str, Path]) -> tuple[Source, ...]:
    """Return the data sets that a resolved config trains on.

    `shown`: what the trainer saw, place → file or folder.
    """
    trained_on = []
    for key in ("pretraining_dataset", "datasets"):
        value = settings.get(key)
        entries = value if isinstance(value, list) else [value] if value else []
        for index, entry in enumerate(entries):
            place = entry.get("path") if isinstance(entry, Mapping) else entry
            split = entry.get("split") if isinstance(entry, Mapping) else None
            files = _files(str(place), str(split or "train"), shown)
            trained_on.append(Source(key=key, index=index, files=files))
        if trained_on:
            break
    return tuple(trained_on)


def _files(place: str, split: str, shown: Mapping[str, Path]) -> tuple[Path, ...]:
    folder = shown.get(place)
    if folder is None:
        return ()
    names = set(_WORD.findall(split))
    files = []
    for path in sorted((folder / "data").iterdir()):
        match = _CANONICAL.fullmatch(path.name)
        if match is not None and (match[1] in names or "all" in names):
            files.append(shown.get(f"{place}/data/{path.name}", path))
    return tuple(files)


def draw(trained_on: Sequence[Source], key: bytes) -> Iterator[bytes]:
    """Yield the sample: lines with a row and its data set, in the order of the draws."""
    indices = [(source, _Lines(path)) for source in trained_on for path in source.files]
    ends: list[int] = []
    for _, lines in indices:
        ends.append((ends[-1] if ends else 0) + lines.count)
    size = 0
    for number in _numbers(key, ends[-1] if ends else 0):
        place = bisect.bisect_right(ends, number)
        source, lines = indices[place]
        row = lines.read(number - (ends[place - 1] if place else 0))
        size += len(row)
        if size > MOST_BYTES and size > len(row):
            return
        yield b'{"index":%d,"key":"%s","row":%s}\n' % (source.index, source.key.encode(), row)


def _numbers(key: bytes, total: int) -> Iterator[int]:
    drawn: set[int] = set()
    place = 0
    while len(drawn) < min(total, MOST_ROWS):
        digest = hashlib.sha256(key + place.to_bytes(8, "big")).digest()
        number = int.from_bytes(digest, "big") % total
        place += 1
        if number not in drawn:
            drawn.add(number)
            yield number


class _Lines:
    """Reads lines of a file by number; it keeps only one number per block in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # The number of line feeds before the end of each block.
        self._feeds: list[int] = []
        feeds = 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                feeds += block.count(b"\n")
                self._feeds.append(feeds)
        self.count = feeds

    def read(self, number: int) -> bytes:
        """Return line `number`, counted from 0, without its line feed."""
        with self._path.open("rb") as file:
            if number:
                file.seek(self._after(file, number))
            return file.readline().removesuffix(b"\n")

    def _after(self, file: BinaryIO, feed: int) -> int:
        """Return the offset just after line feed number `feed`, counted from 1."""
        block = bisect.bisect_left(self._feeds, feed)
        file.seek(block * _BLOCK)
        data = file.read(_BLOCK)
        at = -1
        for _ in range(feed - (self._feeds[block - 1] if block else 0)):
            at = data.index(b"\n", at + 1)
        return block * _BLOCK + at + 1
