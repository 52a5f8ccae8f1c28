"""A transparency log and its witnesses from test keys: any proof, good or bad, in memory.

Proofs are put together line by line (C2SP tlog-proof, tlog-checkpoint, tlog-cosignature), and an
attack may replace any part. Keys come from test seeds, so anybody can make them.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicert.appraisal.evidence.accepted import NoteSigner
from aicert.tlog.notes import VerifierKey
from tests.adversarial.ca_forge import AT

ORIGIN = "log.example/aicert"
WITNESSES = ("witness.example/a", "witness.example/b", "witness.example/c")
LOG, WITNESS = 1, 4
# A few hours before the appraisal of other scenes; each witness signs a minute after the last.
SEEN = AT - timedelta(hours=5)
OTHERS = tuple(b"an entry of somebody else: %d" % number for number in range(6))
INDEX = 3


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha(b"note key of " + name.encode()))


def public(name: str) -> bytes:
    return private(name).public_key().public_bytes_raw()


def key_id(name: str, kind: int, key: bytes) -> bytes:
    return sha(name.encode() + b"\n" + bytes((kind,)) + key)[:4]


def signer(name: str = ORIGIN, kind: int = LOG) -> NoteSigner:
    """Return a policy's entry for this log, or for this witness."""
    key = VerifierKey(name=name, algorithm=kind, public=public(name))
    return NoteSigner(name=name.replace(".example/", "-"), key=key)


def witnesses(*names: str) -> tuple[NoteSigner, ...]:
    return tuple(signer(name, WITNESS) for name in names)


def line(name: str, kind: int, data: bytes, *, key: bytes | None = None) -> str:
    """Return a signature line below a note, with any signature."""
    return f"\u2014 {name} {b64(key_id(name, kind, key or public(name)) + data)}\n"


def seconds(time: datetime) -> int:
    return int(time.timestamp())


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root hash of the tree (RFC 6962, 2.1)."""
    if len(leaves) < 2:
        return sha(b"\0" + leaves[0]) if leaves else sha(b"")
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1" + root(leaves[:half]) + root(leaves[half:]))


def path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Return the audit path of a leaf (RFC 6962, 2.1.1)."""
    if len(leaves) < 2:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return [*path(index, leaves[:half]), root(leaves[half:])]
    return [*path(index - half, leaves[half:]), root(leaves[:half])]


@dataclass(frozen=True, kw_only=True)
class Logged:
    """The parts of a proof: None takes what C2SP prescribes, any other value is put in."""

    entry: bytes = b""
    origin: str = ORIGIN
    # The name in the signature line, and whose key signed.
    name: str = ORIGIN
    signed_by: str = ORIGIN
    leaves: tuple[bytes, ...] | None = None
    index: int | str = INDEX
    hashes: tuple[bytes, ...] | None = None
    size: int | str | None = None
    root: bytes | None = None
    further: str = ""
    # The witnesses that cosign, and when: a minute apart, or all at this 64-bit time.
    by: tuple[str, ...] = ()
    time: int | None = None
    # Lines to put below all others.
    lines: str = ""
    head: str = "c2sp.org/tlog-proof@v1\n"

    def with_(self, **changes: Any) -> "Logged":
        return replace(self, **changes)

    def all(self) -> tuple[bytes, ...]:
        """Return the leaves of the tree."""
        if self.leaves is not None:
            return self.leaves
        return (*OTHERS[:INDEX], self.entry, *OTHERS[INDEX:])

    def text(self) -> str:
        size = len(self.all()) if self.size is None else self.size
        head = root(self.all()) if self.root is None else self.root
        return f"{self.origin}\n{size}\n{b64(head)}\n{self.further}"

    def cosigned(self, name: str, time: int, text: str | None = None) -> str:
        """Return a witness's signature line."""
        body = f"cosignature/v1\ntime {time}\n{self.text() if text is None else text}"
        return line(name, WITNESS, time.to_bytes(8) + private(name).sign(body.encode()))

    def checkpoint(self) -> bytes:
        signature = private(self.signed_by).sign(self.text().encode())
        lines = line(self.name, LOG, signature)
        for number, name in enumerate(self.by):
            time = seconds(SEEN) + 60 * number if self.time is None else self.time
            lines += self.cosigned(name, time)
        return f"{self.text()}\n{lines}{self.lines}".encode()

    def proof(self) -> bytes:
        hashes = path(INDEX, self.all()) if self.hashes is None else self.hashes
        lines = "".join(f"{b64(one)}\n" for one in hashes)
        return f"{self.head}index {self.index}\n{lines}\n".encode() + self.checkpoint()

    def stamp(self) -> str:
        """Return the entry for `timestamps`."""
        return "tlog-proof:" + b64(self.proof())
