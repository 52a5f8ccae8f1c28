"""Fingerprints of passages: two texts that share 50 folded words in a row share a fingerprint.

Winnowing (Schleimer, Wilkerson and Aiken, 2003): of all runs of RUN words that begin in WINDOW
consecutive places, the one with the smallest hash is selected. A shared passage of RUN +
WINDOW - 1 words has a whole window inside, in both texts. The hash is a polynomial over the words'
SHA-256, modulo 2^64: fast, and not resistant to collisions. Whoever produces collisions gets extra
matches, never a false absence; the guarantee holds for any hash.
"""

import hashlib
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

RUN: Final = 13
WINDOW: Final = 38
# The length of a passage that is always found.
PASSAGE: Final = RUN + WINDOW - 1
HASH_BYTES: Final = 8
_FACTOR: Final = 0x9E3779B97F4A7C15
_LANE: Final = 16
_LANE_BITS: Final = 8 * _LANE
_MASK: Final = b"\xff" * HASH_BYTES + b"\0" * HASH_BYTES
# Selects the lower half of each lane, from the first lane on, among words in native byte order.
_LOW: Final = slice(None, None, 2 if sys.byteorder == "little" else -2)
# Hashes of words are kept, because texts repeat words. Each takes some 200 bytes.
_MOST_KEPT: Final = 400_000


class _Hashes(dict[str, bytes]):
    """A cache of the hash of each word, as a little-endian number of _LANE bytes."""

    def __missing__(self, word: str) -> bytes:
        if len(self) >= _MOST_KEPT:
            self.clear()
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        self[word] = lane = digest[HASH_BYTES - 1 :: -1].ljust(_LANE, b"\0")
        return lane


_HASHES = _Hashes()


def of_words(words: list[str]) -> set[int]:
    """Return the fingerprints of a text, given as its folded words.

    The set is empty if there are fewer than RUN words.
    """
    if len(words) < RUN:
        return set()
    # Hash all runs at once, in numbers whose digits are lanes of 128 bits. Lane i of `one` is the
    # hash of word i; lane i of `two`, `four`, … is the hash of the run of that many words that ends
    # with word i.
    size = len(words) * _LANE
    mask = int.from_bytes(_MASK * len(words), "little")
    one = int.from_bytes(b"".join(map(_HASHES.__getitem__, words)), "little")
    two = _joined(one, one, 1, mask)
    four = _joined(two, two, 2, mask)
    eight = _joined(four, four, 4, mask)
    runs = _joined(_joined(eight, four, 4, mask), one, 1, mask)
    lows = memoryview(runs.to_bytes(size, sys.byteorder)).cast("Q")[_LOW]
    return _smallest_of_windows(lows[RUN - 1 :].tolist())


def _joined(first: int, second: int, length: int, mask: int) -> int:
    """Hash longer runs: in each lane, a run of `first` followed by one of `second`.

    `length`: the number of words in a run of `second`. A lane has room for the product of two
    64-bit numbers plus a third one.
    """
    factor = pow(_FACTOR, length, 2**64)
    return ((first << length * _LANE_BITS) * factor + second) & mask


def _smallest_of_windows(runs: list[int]) -> set[int]:
    """Return the smallest hash of each WINDOW; of all hashes if they are fewer than a WINDOW."""
    window = runs[:WINDOW]
    begin, selected = 0, set()
    while True:
        smallest = min(window)
        place = begin + window.index(smallest)
        end = begin + len(window)
        selected.add(smallest)
        # It stays the smallest of the windows that hold it until a smaller one comes.
        coming = runs[end : place + WINDOW]
        while coming and min(coming) < smallest:
            place = end + next(i for i, value in enumerate(coming) if value < smallest)
            smallest = runs[place]
            selected.add(smallest)
            end = place + 1
            coming = runs[end : place + WINDOW]
        begin = place + 1
        window = runs[begin : begin + WINDOW]
        if len(window) < WINDOW:
            return selected


class Fingerprints:
    """A set of many fingerprints of eight bytes each, grouped by first byte as they arrive."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(256)]

    def add(self, fingerprints: Iterable[int]) -> None:
        """Add fingerprints; some may be there already."""
        for fingerprint in fingerprints:
            self._parts[fingerprint >> 56].append(fingerprint)

    def sorted(self) -> Iterator[int]:
        """Yield all fingerprints in order, each once. Call it only once: it empties the set."""
        for place, part in enumerate(self._parts):
            self._parts[place] = array("Q")
            yield from sorted(set(part))
