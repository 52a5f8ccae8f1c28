"""Receipts: what a machine says it served, under a count that its TPM signed.

A receipt is a body and what TPM2_NV_Certify says about a counter, with SHA-256 of the body as its
extraData: number, clock, resets and restarts are under one signature, with that body. The key that
signs is bound by its policy to the leased image (`licence.receipt_policy`), so a signature says
that this image runs. Bodies are canonical JSON: sorted keys, no spaces, each field there.

Promises: `verify` returns only if that key signed the receipt, about that counter, over that body.
Whether it continues what came before is the ledger's question. The key itself is believed only
after an enrolment was appraised; `check_receipt_key` compares it, and does not prove whose it is.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aicert.crypto.signatures import ec_key, verify_signature
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import strict_json, tpm
from aicert.formats.digest import Digest
from aicert.formats.dsse import b64decode, b64encode
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass
from aicert.lease import licence, tpm_policy
from aicert.lease.checks import RefusedError, checking
from aicert.lease.terms import LEASE_DIGITS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

MAX_BODY: Final = 4096
MAX_RECEIPT: Final = 16_384
# A counter's TPMS_ATTEST has 149 bytes, an ECDSA signature 72.
MAX_ATTEST: Final = 512
MAX_SIGNATURE: Final = 256
RH_ENDORSEMENT: Final = 0x4000_000B  # Part 2, 7.4
# TPMA_OBJECT of the key: made inside this TPM, restricted to what a TPM says, no password.
RECEIPT_KEY_ATTRIBUTES: Final = (
    tpm.FIXED_TPM
    | tpm.FIXED_PARENT
    | tpm.SENSITIVE_DATA_ORIGIN
    | 0x0000_0400  # noDA
    | 0x0001_0000  # restricted
    | tpm.SIGN
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was served since the boot. `ticks`: how often the meter was raised for it."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_refused: int = 0
    requests: int = 0
    ticks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The body of a receipt.

    `previous`: SHA-256 of the receipt before it, or of the terms before the first; `nonce`: the
    broker's; `boot`: SHA-256 of the TLS key's SubjectPublicKeyInfo. All three are in hex.
    `half_for`: the X25519 key of this boot, in hex, for which the broker's half is asked; empty
    once the lease is opened. A key that no receipt names gets no half.
    """

    lease: str
    seq: int
    previous: str
    nonce: str
    boot: str
    usage: Usage
    half_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One receipt: its body's bytes, its TPMS_ATTEST and its TPMT_SIGNATURE."""

    body: bytes
    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptKey:
    """A key that signs for the leased image. `qualified_name`: the one it has as a primary key."""

    key: "EllipticCurvePublicKey"
    name: bytes
    qualified_name: bytes


def emit_heartbeat(heartbeat: Heartbeat) -> bytes:
    """Return the body's bytes."""
    usage = heartbeat.usage
    return strict_json.dumps(
        {
            "boot": heartbeat.boot,
            **({"halfFor": heartbeat.half_for} if heartbeat.half_for else {}),
            "lease": heartbeat.lease,
            "nonce": heartbeat.nonce,
            "previous": heartbeat.previous,
            "requests": usage.requests,
            "seq": heartbeat.seq,
            "ticks": usage.ticks,
            "tokens": {
                "in": usage.tokens_in,
                "out": usage.tokens_out,
                "refused": usage.tokens_refused,
            },
        }
    )


def parse_heartbeat(data: bytes) -> Heartbeat:
    """Read a body in its one form; EvidenceError for any other."""
    fields = Fields(
        strict_json.loads(data, what="the heartbeat", max_bytes=MAX_BODY), "the heartbeat"
    )
    tokens = fields.fields("tokens")
    heartbeat = Heartbeat(
        lease=fields.hex("lease", LEASE_DIGITS),
        seq=fields.integer("seq"),
        previous=fields.hex("previous"),
        nonce=fields.hex("nonce"),
        boot=fields.hex("boot"),
        usage=Usage(
            tokens_in=tokens.integer("in"),
            tokens_out=tokens.integer("out"),
            tokens_refused=tokens.integer("refused"),
            requests=fields.integer("requests"),
            ticks=fields.integer("ticks"),
        ),
        half_for=fields.hex("halfFor") if fields.has("halfFor") else "",
    )
    tokens.done()
    fields.done()
    if emit_heartbeat(heartbeat) != data:
        raise EvidenceError("the heartbeat is not in canonical form")
    return heartbeat


def emit(receipt: Receipt) -> bytes:
    """Return the receipt as one line of a file of receipts, without the line's end."""
    return strict_json.dumps(
        {
            "attest": b64encode(receipt.attest),
            "body": b64encode(receipt.body),
            "signature": b64encode(receipt.signature),
        }
    )


def parse(data: bytes) -> Receipt:
    """Read a receipt in its one form; EvidenceError for any other. Nothing is verified."""
    fields = Fields(
        strict_json.loads(data, what="the receipt", max_bytes=MAX_RECEIPT), "the receipt"
    )
    receipt = Receipt(
        body=b64decode(fields, "body", max_bytes=MAX_BODY),
        attest=b64decode(fields, "attest", max_bytes=MAX_ATTEST),
        signature=b64decode(fields, "signature", max_bytes=MAX_SIGNATURE),
    )
    fields.done()
    if emit(receipt) != data:
        raise EvidenceError("the receipt is not in canonical form")
    return receipt


def check_receipt_key(public_area: bytes, values: Mapping[int, bytes]) -> ReceiptKey:
    """Return the key of a TPMT_PUBLIC that signs for machines with these registers.

    Any other is an EvidenceError. `values` has licence.RECEIPT_PCRS at least.
    """
    public = tpm.parse_public(public_area)
    scheme = (public.symmetric, public.scheme, public.scheme_hash)
    kind = (public.type, public.curve, public.name_hash)
    if kind != (tpm.ALG_ECC, tpm.CURVE_P256, tpm.ALG_SHA256):
        raise EvidenceError("the receipt key is not a P-256 key with a SHA-256 Name")
    if scheme != (tpm.ALG_NULL, tpm.ALG_ECDSA, tpm.ALG_SHA256):
        raise EvidenceError("the receipt key's scheme is not ECDSA with SHA-256")
    if public.attributes != RECEIPT_KEY_ATTRIBUTES:
        raise EvidenceError(
            f"the receipt key has attributes {public.attributes:#010x}, "
            f"expected {RECEIPT_KEY_ATTRIBUTES:#010x}"
        )
    if public.auth_policy != licence.receipt_policy(values):
        raise EvidenceError("the receipt key is not bound to this image and firmware")
    return ReceiptKey(
        key=ec_key(public),
        name=public.name,
        qualified_name=tpm.qualified_name_of_primary(RH_ENDORSEMENT, public.name),
    )


def verify(receipt: Receipt, key: ReceiptKey, index: int) -> tpm.CounterReading:
    """Return what the TPM says about its counter at `index`.

    RefusedError names the check that fails.
    """
    with checking("receipt.signature"):
        try:
            signature = tpm.parse_signature(receipt.signature)
        except UndecidedError as error:
            # The key's own scheme is known, so a signature of an unknown one is not the key's.
            raise EvidenceError(error.message) from None
        verify_signature(key.key, signature, receipt.attest)
    with checking("receipt.form"):
        reading = tpm.parse_counter(receipt.attest, "the receipt's TPMS_ATTEST")
    if reading.qualified_signer != key.qualified_name:
        raise RefusedError(
            "receipt.signature", "the key is not a primary key in this TPM's endorsement hierarchy"
        )
    if reading.name != tpm_policy.counter_name(index):
        raise RefusedError("receipt.index", "it is about a different counter")
    if reading.extra_data != hashlib.sha256(receipt.body).digest():
        raise RefusedError("receipt.body", "it is for a different body")
    # TPM2_Shutdown(STATE), a power cut and TPM2_Startup(STATE) bring a boot's registers back, and
    # with them the key's policy, for whatever system runs then.
    if reading.clock.restart_count:
        raise RefusedError(
            "receipt.boot", "the TPM was resumed: its registers are not from this boot"
        )
    return reading


def digest(receipt: Receipt) -> Digest:
    """Return the digest by which the next body, and the order that answers, name this receipt.

    It covers all that was signed, and the signature. With a digest of the body alone, two copies of
    one machine that run in step would sign the same.
    """
    return Digest("sha256", hashlib.sha256(emit(receipt)).hexdigest())
