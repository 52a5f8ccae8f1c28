"""Orders: what a broker tells a machine, signed by the custodian, in answer to one heartbeat.

    {"answers":"…","boot":"…","epoch":3,"generation":17,"half":"…","kind":"grant",
     "lease":"719013b3…","licence":"…","seq":41,"terms":"sha256:44c1…"}

`grant` brings a licence, and the broker's half of the content key where the heartbeat asked for it;
`revoke` ends the lease, `stop` this boot. A machine takes an order only as the answer to its own
latest receipt: it names boot, seq and the SHA-256 of that receipt, attestation and signature too.
So an order for another boot, or an earlier one, cannot be replayed, and of two copies of a machine
that say the same only one is answered. `generation` is the broker's own count: a ledger restored
from a backup would give one that was seen before.

The half is encrypted to a key of the boot (RFC 9180, base mode: DHKEM(X25519), HKDF-SHA256,
AES-256-GCM), and bound to lease, terms, nonce and boot.
"""

from typing import TYPE_CHECKING, Any, Final

from aicert.crypto.signatures import verify_ecdsa
from aicert.errors import EvidenceError, ToolError
from aicert.formats import strict_json
from aicert.formats.digest import Digest
from aicert.formats.dsse import b64decode, b64encode
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass
from aicert.lease import keys, licence, receipts
from aicert.lease.blob import HALF_BYTES
from aicert.lease.checks import RefusedError, checking
from aicert.lease.receipts import Heartbeat, Receipt
from aicert.lease.terms import LEASE_DIGITS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

GRANT: Final = "grant"
REVOKE: Final = "revoke"
STOP: Final = "stop"
KINDS: Final = (GRANT, REVOKE, STOP)
CONTEXT: Final = b"aicert order v1\0"
HALF_CONTEXT: Final = b"aicert half v1\0"
MAX_BYTES: Final = 8192
MAX_ORDER: Final = 4096
MAX_SIGNATURE: Final = 80
# What HPKE adds: the sender's key and a tag.
SEALED_HALF: Final = 32 + HALF_BYTES + 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order. `answers`: SHA-256 of the receipt that it answers, in hex; `licence` and `half`:
    parts of a grant, empty where there is none.
    """

    kind: str
    lease: str
    terms: Digest
    boot: str
    epoch: int
    seq: int
    answers: str
    generation: int
    licence: bytes = b""
    half: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOrder:
    """An order's bytes, and the custodian's DER signature."""

    order: bytes
    signature: bytes


def emit_order(order: Order) -> bytes:
    """Return the bytes that are signed."""
    document: dict[str, object] = {
        "answers": order.answers,
        "boot": order.boot,
        "epoch": order.epoch,
        "generation": order.generation,
        "kind": order.kind,
        "lease": order.lease,
        "seq": order.seq,
        "terms": str(order.terms),
    }
    if order.licence:
        document["licence"] = order.licence.decode("ascii")
    if order.half:
        document["half"] = b64encode(order.half)
    return strict_json.dumps(document)


def parse_order(data: bytes) -> Order:
    """Read an order in its one form; EvidenceError for any other."""
    what = "the order"
    fields = Fields(strict_json.loads(data, what=what, max_bytes=MAX_ORDER), what)
    order = Order(
        kind=fields.text("kind"),
        lease=fields.hex("lease", LEASE_DIGITS),
        terms=Digest.parse(fields.text("terms")),
        boot=fields.hex("boot"),
        epoch=fields.integer("epoch"),
        seq=fields.integer("seq"),
        answers=fields.hex("answers"),
        generation=fields.integer("generation"),
        licence=_licence(fields) if fields.has("licence") else b"",
        half=b64decode(fields, "half", max_bytes=SEALED_HALF) if fields.has("half") else b"",
    )
    fields.done()
    _check(order)
    if emit_order(order) != data:
        raise EvidenceError(f"{what} is not in canonical form")
    return order


def _licence(fields: Fields) -> bytes:
    data = fields.text("licence", max_length=licence.MAX_BYTES).encode()
    licence.parse(data)
    return data


def _check(order: Order) -> None:
    if order.kind not in KINDS:
        raise EvidenceError(f"the order is not one of {', '.join(KINDS)}")
    if (order.kind == GRANT) != bool(order.licence) or (order.half and order.kind != GRANT):
        raise EvidenceError("a grant carries a licence, and no other order carries anything")
    if len(order.half) not in (0, SEALED_HALF):
        raise EvidenceError(f"an encrypted half has {SEALED_HALF} bytes")


def emit(signed: SignedOrder) -> bytes:
    """Return the signed order as the courier carries it."""
    return strict_json.dumps(
        {"order": b64encode(signed.order), "signature": b64encode(signed.signature)}
    )


def parse(data: bytes) -> SignedOrder:
    """Read a signed order in its one form; EvidenceError for any other. Nothing is verified."""
    what = "the signed order"
    fields = Fields(strict_json.loads(data, what=what, max_bytes=MAX_BYTES), what)
    signed = SignedOrder(
        order=b64decode(fields, "order", max_bytes=MAX_ORDER),
        signature=b64decode(fields, "signature", max_bytes=MAX_SIGNATURE),
    )
    fields.done()
    if emit(signed) != data:
        raise EvidenceError(f"{what} is not in canonical form")
    return signed


def sign(key: "EllipticCurvePrivateKey", order: Order) -> SignedOrder:
    """Return the order with the custodian's signature.

    Its context makes it longer than what a licence signs, so that neither can be taken for the
    other.
    """
    _check(order)
    data = emit_order(order)
    return SignedOrder(order=data, signature=keys.sign(key, CONTEXT + data))


def accept(
    signed: SignedOrder,
    custodian: "EllipticCurvePublicKey",
    *,
    receipt: Receipt,
    heartbeat: Heartbeat,
    terms: Digest,
    epoch: int,
    generation: int,
) -> Order:
    """Return the order if it answers the machine's latest receipt, `receipt`.

    `heartbeat`: that receipt's body, as parsed; `epoch`: what the TPM's counter shows;
    `generation`: the highest that this boot has seen. RefusedError names the check that fails.
    """
    with checking("order.signature"):
        verify_ecdsa(
            custodian, signed.signature, CONTEXT + signed.order, "sha256",
            "the order is not signed by this custodian",
        )  # fmt: skip
    order = parse_order(signed.order)
    asked = (heartbeat.lease, terms, heartbeat.boot, heartbeat.seq)
    if (order.lease, order.terms, order.boot, order.seq) != asked:
        raise RefusedError("order.answer", "it is for a different lease, boot or heartbeat")
    if order.answers != receipts.digest(receipt).hex:
        raise RefusedError("order.answer", "it answers a different receipt")
    if order.generation <= generation:
        raise RefusedError(
            "order.answer",
            f"its generation is {order.generation}, after {generation}: the broker uses an older "
            "ledger",
        )
    if order.epoch != epoch:
        raise RefusedError("order.epoch", f"it is for epoch {order.epoch}, but this is {epoch}")
    if order.licence and licence.parse(order.licence).terms != terms:
        raise RefusedError("order.answer", "its licence is for different terms")
    return order


def half_context(heartbeat: Heartbeat, terms: Digest) -> bytes:
    """Return what an encrypted half is bound to: lease, terms, nonce and boot."""
    names = (heartbeat.lease, terms.hex, heartbeat.nonce, heartbeat.boot)
    return HALF_CONTEXT + b"".join(bytes.fromhex(name) for name in names)


def seal_half(half: bytes, heartbeat: Heartbeat, terms: Digest) -> bytes:
    """Encrypt the broker's half for the boot that asked for it in a verified heartbeat."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    if not heartbeat.half_for:
        raise EvidenceError("the heartbeat does not ask for half of the key")
    if len(half) != HALF_BYTES:
        raise EvidenceError(f"half of a content key has {HALF_BYTES} bytes")
    public = X25519PublicKey.from_public_bytes(bytes.fromhex(heartbeat.half_for))
    try:
        sealed: bytes = _suite().encrypt(half, public, half_context(heartbeat, terms))
    except ValueError:
        # The heartbeat's key is a point of small order, and so nobody's key.
        raise EvidenceError("nothing can be encrypted to the heartbeat's key") from None
    return sealed


def open_half(sealed: bytes, key: "X25519PrivateKey", heartbeat: Heartbeat, terms: Digest) -> bytes:
    """Decrypt the broker's half; RefusedError unless it is for this boot, nonce and lease."""
    from cryptography.exceptions import InvalidTag

    try:
        half: bytes = _suite().decrypt(sealed, key, half_context(heartbeat, terms))
    except (InvalidTag, ValueError):
        raise RefusedError("order.answer", "the half is encrypted for something else") from None
    return half


def _suite() -> Any:
    try:
        from cryptography.hazmat.primitives import hpke
    except ImportError:
        raise ToolError(
            "this version of cryptography has no HPKE", hint="pip install --upgrade cryptography"
        ) from None
    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
