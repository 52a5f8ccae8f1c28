"""Digests of files and directories, and what a reader measures of one file.

A file's digest is `sha256:` and 64 lowercase hex; a directory's is `dirHash:` and 64 hex, the
SHA-256 of its `sha256sum` listing sorted by path (in-toto digest set, `dirHash`). The kind is part
of the digest everywhere: a *file* whose content is that listing would have the same hex.
"""

import hashlib
from typing import Literal, cast

from aicert.errors import EvidenceError
from aicert.frozen import dataclass

Kind = Literal["sha256", "dirHash"]

HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The SHA-256 of a file or of a directory's listing; `str()` gives `KIND:HEX`."""

    kind: Kind
    hex: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.hex}"

    @staticmethod
    def parse(text: str) -> "Digest":
        """Read `sha256:HEX` or `dirHash:HEX`; anything else is an EvidenceError."""
        kind, colon, value = text.partition(":")
        if not colon or kind not in ("sha256", "dirHash") or not is_hex(value):
            raise EvidenceError(f"not a digest: {text[:80]!r}")
        return Digest(cast(Kind, kind), value)


@dataclass(frozen=True, slots=True)
class FileFact:
    """What a reader measured of one file: `size` in bytes, `sha256` as 64 hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Defect:
    """Why a file, or whatever else is at a path, cannot be part of a certified model."""

    reason: str


def is_hex(text: str, length: int = 64) -> bool:
    """Return whether `text` is exactly `length` lowercase hexadecimal digits."""
    return len(text) == length and HEX.issuperset(text)


def of_bytes(data: bytes) -> Digest:
    """Return the `sha256:` digest of `data`."""
    return Digest("sha256", hashlib.sha256(data).hexdigest())
