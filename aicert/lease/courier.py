"""The messages between a courier and a serving machine, one line each.

    {"data":"…","kind":"heartbeat"}
    {"data":"eyJh…","kind":"receipt"}

The machine opens no connection: whoever runs it carries its messages to the custodian, and the
answers back. All that matters is signed inside `data`; a courier can withhold it, and then the
deadline stops the machine.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.dsse import b64decode, b64encode
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass
from aicert.lease import blob, enrolment, licence, orders, receipts

# What a courier asks, and at most how many bytes `data` has. ENROL and HEARTBEAT carry a nonce;
# RESUME carries the SHA-256 of the last receipt, with its `seq`; BLOB a lease blob, LICENCE a
# licence, ORDER a signed order, and STOP nothing.
ENROL: Final = "enrol"
RESUME: Final = "resume"
HEARTBEAT: Final = "heartbeat"
BLOB: Final = "blob"
LICENCE: Final = "licence"
ORDER: Final = "order"
STOP: Final = "stop"
ASKS: Final[Mapping[str, int]] = MappingProxyType(
    {
        ENROL: 32,
        RESUME: 32,
        HEARTBEAT: 32,
        BLOB: blob.MAX_BYTES,
        LICENCE: licence.MAX_BYTES,
        ORDER: orders.MAX_BYTES,
        STOP: 0,
    }
)
# What the machine tells, and at most how many bytes `data` has: the SHA-256 of its TLS key, an
# enrolment, a receipt; that it serves, what it served (STATE), what it refuses and why, and why it
# ended.
READY: Final = "ready"
ENROLMENT: Final = "enrolment"
RECEIPT: Final = "receipt"
SERVING: Final = "serving"
STATE: Final = "state"
REFUSED: Final = "refused"
ENDED: Final = "ended"
MAX_TEXT: Final = 1024
TELLS: Final[Mapping[str, int]] = MappingProxyType(
    {
        READY: 32,
        ENROLMENT: enrolment.MAX_BYTES,
        RECEIPT: receipts.MAX_RECEIPT,
        SERVING: 0,
        STATE: 0,
        REFUSED: MAX_TEXT,
        ENDED: MAX_TEXT,
    }
)
# Enough for base64, and what stands around it.
MAX_LINE: Final = 2 * enrolment.MAX_BYTES
_NUMBERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        RESUME: ("seq",),
        SERVING: ("port",),
        STATE: ("budget", "meter", "refused", "requests", "seconds", "tokensIn", "tokensOut"),
    }
)
_EXACT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. `numbers`: the numbers that its kind has, by name, and no others."""

    kind: str
    data: bytes = b""
    numbers: tuple[tuple[str, int], ...] = ()

    @property
    def number(self) -> dict[str, int]:
        """The numbers by name."""
        return dict(self.numbers)


def emit(message: Message) -> bytes:
    """Return the message as one line, with its end."""
    document: dict[str, object] = {"kind": message.kind, **message.number}
    if message.data:
        document["data"] = b64encode(message.data)
    return strict_json.dumps(document) + b"\n"


def parse(line: bytes, kinds: Mapping[str, int]) -> Message:
    """Read a line of one of these kinds (ASKS or TELLS).

    Raises EvidenceError unless it is in its one form.
    """
    what = "the message"
    if not line.endswith(b"\n"):
        raise EvidenceError(f"{what} ends early")
    fields = Fields(strict_json.loads(line[:-1], what=what, max_bytes=MAX_LINE), what)
    kind = fields.text("kind")
    if kind not in kinds:
        raise EvidenceError(f"{what} is not one of {', '.join(kinds)}")
    most = kinds[kind]
    message = Message(
        kind=kind,
        data=b64decode(fields, "data", max_bytes=most) if fields.has("data") else b"",
        numbers=tuple((name, fields.integer(name)) for name in _NUMBERS.get(kind, ())),
    )
    fields.done()
    if bool(message.data) != bool(most) or (most == _EXACT and len(message.data) != most):
        raise EvidenceError(f"{what} {kind} carries something else")
    if emit(message) != line:
        raise EvidenceError(f"{what} is not in canonical form")
    return message
