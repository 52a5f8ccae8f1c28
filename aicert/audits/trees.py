"""The content of leaves: salted rows in one tree, fingerprints of passages, sorted, in the other.

Each kind of leaf begins with a prefix of its own, and each salt belongs to one input and split, so
that no leaf, path or salt of one tree is valid in another (docs/spec/audit.md).
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
# HMAC with SHA-256 (RFC 2104): the block size, and the pads that the key is mixed with.
_BLOCK: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class Salts:
    """The salts of the rows of one split, derived from a key.

    Without the key nobody can guess a row from the hash of its leaf.
    """

    def __init__(self, key: bytes, name: str, split: str) -> None:
        block = key.ljust(_BLOCK, b"\0")
        # Neither name contains a zero byte.
        context = _SALT + name.encode() + b"\0" + split.encode() + b"\0"
        # Both hashes begin the same way for every row. Copying that beginning takes half the time
        # of computing each HMAC anew.
        self._inner = hashlib.sha256(block.translate(_INNER) + context)
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def salt(self, index: int) -> bytes:
        """Return the salt of row `index`, counted from 0."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(index.to_bytes(_INDEX_BYTES, "big"))
        outer.update(inner.digest())
        return outer.digest()[:SALT_BYTES]


def row_leaf(salt: bytes, row: bytes) -> bytes:
    """Return the content of the leaf for a canonical row, given without its line feed."""
    return _ROW + salt + row


def passage_leaf(fingerprint: int) -> bytes:
    """Return the content of the leaf for a fingerprint."""
    return _PASSAGE + fingerprint.to_bytes(HASH_BYTES, "big")
