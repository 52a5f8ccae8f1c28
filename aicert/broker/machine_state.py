"""What the broker has seen of one machine since it enrolled, and its form in the ledger file.

The form is canonical JSON, read by the strict reader: a row that was edited by hand is refused, not
guessed at.
"""

from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.digest import is_hex
from aicert.formats.dsse import b64decode, b64encode
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass
from aicert.lease import orders
from aicert.lease.ledger import Ledger
from aicert.lease.receipts import Usage
from aicert.lease.terms import Terms

MAX_BYTES: Final = 1 << 15
_COUNTS: Final = ("tokens_in", "tokens_out", "tokens_refused", "requests", "ticks")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """What the broker has seen of one machine.

    `ledger`: the receipts so far. `epoch`: the value of the TPM's epoch counter. `nonce`: the nonce
    that the next receipt must answer, in hex, empty if none was given since the last; `answered`:
    the nonce of the last receipt. `order`: the signed answer to the last receipt, empty if it got
    none; `ending`: the bytes of the last order that ends the boot.

    `licensed`: the meter value up to which the last licence is valid, 0 if none was given in this
    boot or the boot is over; `licensed_until`: when that licence has run out, by the broker's
    clock. `charged`: ticks of earlier boots that may have been served without a receipt.
    `wants_end`: whether the borrower asks for an order to stop. `is_over`: whether this boot's kill
    receipt is here.
    """

    ledger: Ledger
    epoch: int
    nonce: str = ""
    answered: str = ""
    order: bytes = b""
    ending: bytes = b""
    licensed: int = 0
    licensed_until: int = 0
    charged: int = 0
    wants_end: bool = False
    is_over: bool = False


def emit(seen: MachineState) -> bytes:
    """Return the bytes of the row."""
    ledger = seen.ledger
    return strict_json.dumps(
        {
            "answered": seen.answered,
            "boot": ledger.boot,
            "charged": seen.charged,
            "clock": ledger.clock,
            "earlier": _usage_json(ledger.earlier),
            "ending": b64encode(seen.ending),
            "epoch": seen.epoch,
            "firstMeter": ledger.first_meter,
            "head": ledger.head,
            "isOver": seen.is_over,
            "isRevoked": ledger.is_revoked,
            "licensed": seen.licensed,
            "licensedUntil": seen.licensed_until,
            "meter": ledger.meter,
            "nonce": seen.nonce,
            "order": b64encode(seen.order),
            "resets": ledger.resets,
            "seq": ledger.seq,
            "usage": _usage_json(ledger.usage),
            "wantsEnd": seen.wants_end,
        }
    )


def parse(data: bytes, terms: Terms) -> MachineState:
    """Parse a row; EvidenceError for anything that `emit` does not write."""
    what = "the ledger's row"
    fields = Fields(strict_json.loads(data, what=what, max_bytes=MAX_BYTES), what)
    ledger = Ledger(
        terms=terms,
        head=fields.hex("head"),
        meter=fields.integer("meter"),
        clock=fields.integer("clock"),
        resets=fields.integer("resets"),
        seq=fields.integer("seq"),
        boot=_hex_or_none(fields, "boot"),
        first_meter=fields.integer("firstMeter"),
        usage=_usage(fields.fields("usage")),
        earlier=_usage(fields.fields("earlier")),
        is_revoked=fields.boolean("isRevoked"),
    )
    seen = MachineState(
        ledger=ledger,
        epoch=fields.integer("epoch"),
        nonce=_hex_or_none(fields, "nonce"),
        answered=_hex_or_none(fields, "answered"),
        order=b64decode(fields, "order", max_bytes=orders.MAX_BYTES),
        ending=b64decode(fields, "ending", max_bytes=orders.MAX_ORDER),
        licensed=fields.integer("licensed"),
        licensed_until=fields.integer("licensedUntil"),
        charged=fields.integer("charged"),
        wants_end=fields.boolean("wantsEnd"),
        is_over=fields.boolean("isOver"),
    )
    fields.done()
    if emit(seen) != data:
        raise EvidenceError(f"{what} is not in canonical form")
    return seen


def _hex_or_none(fields: Fields, key: str) -> str:
    text = fields.text(key, max_length=64)
    if text and not is_hex(text):
        raise EvidenceError(f"{fields.where}.{key} is not 64 hexadecimal digits")
    return text


def _usage_json(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in _COUNTS}


def _usage(fields: Fields) -> Usage:
    usage = Usage(**{name: fields.integer(name) for name in _COUNTS})
    fields.done()
    return usage
