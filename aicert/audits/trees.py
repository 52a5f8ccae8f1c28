"""What stands in the leaves: rows under salts, and fingerprints of passages in their order.

Each kind of leaf begins with a context of its own, and each salt is of one input and split, so
that no leaf, path or salt of one tree is any in another (docs/spec/audit.md).
"""

import hashlib
from typing import Final

from aicert.audits.fingerprints import HASH_BYTES

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
_ROW: Final = b"aicert record v1\0"
_SALT: Final = b"aicert record salt v1\0"
_PASSAGE: Final = b"aicert passage v1\0"
_INDEX_BYTES: Final = 8
# HMAC's (RFC 2104), of SHA-256: the block, and what the key is mixed with for either hash.
_BLOCK: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class Salts:
    """The salts of one input's split: who does not know the key cannot guess a neighbour."""

    def __init__(self, key: bytes, name: str, split: str) -> None:
        block = key.ljust(_BLOCK, b"\0")
        # Neither name has a zero in it.
        context = _SALT + name.encode() + b"\0" + split.encode() + b"\0"
        # Both hashes have begun the same for every row: half the time of one HMAC after another.
        self._inner = hashlib.sha256(block.translate(_INNER) + context)
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def salt(self, index: int) -> bytes:
        """The salt of row `index`, counted from 0."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(index.to_bytes(_INDEX_BYTES, "big"))
        outer.update(inner.digest())
        return outer.digest()[:SALT_BYTES]


def row_leaf(salt: bytes, row: bytes) -> bytes:
    """The leaf of a canonical row, which is given without its line feed."""
    return _ROW + salt + row


def passage_leaf(fingerprint: int) -> bytes:
    """The leaf of a fingerprint."""
    return _PASSAGE + fingerprint.to_bytes(HASH_BYTES, "big")
