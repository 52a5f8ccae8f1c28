"""The secrets of a lease's custodian: both halves of the content key, and the lease key.

They are in one file, `DIR.keys`, which only its owner may read. None of them has a representation,
and no error repeats them.
"""

import secrets
from typing import TYPE_CHECKING, Final

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.strict_json import Fields
from aicert.lease import keys
from aicert.lease.blob import HALF_BYTES
from aicert.lease.bundle import NO_BROKER
from aicert.lease.terms import LEASE_DIGITS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

VERSION: Final = 1
MAX_BYTES: Final = 4096
MAX_PEM: Final = 1024


class Secrets:
    """The secrets of one lease."""

    __slots__ = ("broker_half", "key", "lease", "tpm_half")

    def __init__(
        self, *, lease: str, key: "EllipticCurvePrivateKey", tpm_half: bytes, broker_half: bytes
    ) -> None:
        self.lease = lease
        self.key = key
        self.tpm_half = tpm_half
        self.broker_half = broker_half

    def __repr__(self) -> str:
        return f"Secrets(lease={self.lease!r})"


def drawn(*, offline: bool) -> Secrets:
    """Return fresh secrets for a new lease; one that runs offline has no broker's half."""
    return Secrets(
        lease=secrets.token_hex(LEASE_DIGITS // 2),
        key=keys.generate(),
        tpm_half=secrets.token_bytes(HALF_BYTES),
        broker_half=NO_BROKER if offline else secrets.token_bytes(HALF_BYTES),
    )


def emit(kept: Secrets) -> bytes:
    """Return the bytes of the file with the secrets."""
    return strict_json.dumps(
        {
            "brokerHalf": kept.broker_half.hex(),
            "key": keys.private_pem(kept.key).decode("ascii"),
            "lease": kept.lease,
            "tpmHalf": kept.tpm_half.hex(),
            "version": VERSION,
        }
    )


def parse(data: bytes) -> Secrets:
    """Read the file; EvidenceError for anything that was not written by `emit`."""
    what = "the custodian's keys"
    fields = Fields(strict_json.loads(data, what=what, max_bytes=MAX_BYTES), what)
    fields.const("version", VERSION)
    kept = Secrets(
        lease=fields.hex("lease", LEASE_DIGITS),
        key=keys.load_private(fields.text("key", max_length=MAX_PEM).encode()),
        tpm_half=bytes.fromhex(fields.hex("tpmHalf")),
        broker_half=bytes.fromhex(fields.hex("brokerHalf")),
    )
    fields.done()
    if emit(kept) != data:
        raise EvidenceError(f"{what} are not in canonical form")
    return kept
