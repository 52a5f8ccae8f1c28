"""RFC 6962's tree and winnowing written a second time, from their definitions and without code of
`aicert`.

Slow and recursive on purpose: MTH, PATH and the window's minimum are written as in the papers.
"""

import hashlib


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def split(count: int) -> int:
    """Return the largest power of two smaller than `count`."""
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    """Return the Merkle tree hash of a list (RFC 6962, 2.1)."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    k = split(len(leaves))
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:]))


def path(index: int, leaves: list[bytes]) -> list[bytes]:
    """Return PATH(m, D[n]), the audit path of a leaf (RFC 6962, 2.1.1)."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*path(index, leaves[:k]), mth(leaves[k:])]
    return [*path(index - k, leaves[k:]), mth(leaves[:k])]


def follow(leaf: bytes, index: int, count: int, siblings: list[bytes]) -> bytes | None:
    """Compute the root from a leaf and its path, from the root's end; None for a path of another
    length.
    """
    if count == 1:
        return None if siblings or index else sha256(b"\x00" + leaf)
    if not siblings or not 0 <= index < count:
        return None
    k = split(count)
    if index < k:
        left = follow(leaf, index, k, siblings[:-1])
        return None if left is None else sha256(b"\x01" + left + siblings[-1])
    right = follow(leaf, index - k, count - k, siblings[:-1])
    return None if right is None else sha256(b"\x01" + siblings[-1] + right)


def run_hash(words: list[str]) -> int:
    """Return the hash of a run of words: Horner's rule, modulo 2^64, over the first 64 bits of
    each.
    """
    value = 0
    for word in words:
        value = value * 0x9E3779B97F4A7C15 + int.from_bytes(sha256(word.encode())[:8], "big")
    return value % 2**64


def fingerprints(words: list[str], run: int = 13, window: int = 38) -> set[int]:
    """Return the smallest hash in each window of runs; of all runs if they fill no window."""
    runs = [run_hash(words[i : i + run]) for i in range(len(words) - run + 1)]
    windows = [runs[i : i + window] for i in range(max(1, len(runs) - window + 1))]
    return {min(each) for each in windows if each}
