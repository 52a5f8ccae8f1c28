"""What a serving machine says about itself in the attested channel, and what it measured.

    {"boots":3,"certificate":"sha256:77aa…","image":"sha256:9a10…","lease":"719013b3…",
     "model":"dirHash:8e1f…","receiptKey":"000b…","terms":"sha256:44c1…"}

Evidence is asked for after the TLS 1.3 handshake, on that very connection. The quote's extraData
binds the consumer's nonce, the TLS key, the connection's exporter (RFC 9266) and the statement.
With the key alone, a relay that holds a stolen key would be accepted; an exporter alone can be
reflected.

The receipt key signs the same extraData, in a certification of the meter, whose clock says whether
the TPM was resumed. A TPM2_Startup(STATE) brings back all registers of a machine that served, for
whatever system runs then; and the attestation key may be in a hierarchy whose counts of resumes the
TPM obfuscates. Evidence is canonical JSON; reading it proves nothing (`aicert.leasing` judges).
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.certificate import Signed, read_signed, signed_json
from aicert.formats.digest import Digest, is_hex
from aicert.formats.dsse import b64decode, b64encode
from aicert.formats.measurement import QUOTED_PCRS, replay
from aicert.formats.strict_json import Fields
from aicert.formats.tpm import NAME_BYTES
from aicert.frozen import dataclass
from aicert.lease import terms
from aicert.lease.enrolment import (
    MAX_BYTES,
    MAX_TPM,
    CertifiedPublic,
    certified_json,
    read_certified,
    read_chain,
)
from aicert.lease.terms import LEASE_DIGITS

CONTEXT: Final = b"aicert serve v1\0"
WHAT: Final = "the evidence of a serving machine"
EXPORTER_LABEL: Final = b"EXPORTER-Channel-Binding"
EXPORTER_BYTES: Final = 32
MAX_STATEMENT: Final = 4096
SERVING: Final = b"serving\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a serving machine says about itself.

    `image`: the digest of the image's lock, None where nothing measures a boot; `receipt_key`: the
    Name of the key that receipts are signed with, in hex.
    """

    lease: str
    terms: Digest
    model: Digest
    certificate: Digest
    image: Digest | None
    receipt_key: str
    boots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The evidence of a serving machine.

    `terms` and `statement`: their bytes. `pcrs`: the SHA-256 bank, 0 to 15. `meter`: the receipt
    key's certification of the meter, over the quote's extraData.
    """

    nonce: bytes
    ak_chain: tuple[bytes, ...]
    quote: Signed
    pcrs: Mapping[int, bytes]
    receipt_key: CertifiedPublic
    meter: Signed
    terms: bytes
    statement: bytes


def events(terms_bytes: bytes, model: Digest) -> list[bytes]:
    """Return PCR 14's events in a serving machine.

    They are the terms, the model as it was read, and `serving`.
    """
    return [terms_bytes, f"model {model}\n".encode("ascii"), SERVING]


def serving_register(terms_bytes: bytes, model: Digest) -> bytes:
    """Return the value of PCR 14 after these events."""
    return replay(events(terms_bytes, model))


def stopped_event(reason: str) -> bytes:
    """Return the event that is measured into PCR 8 when serving ends.

    Nothing is opened or signed after it.
    """
    return f"stopped {reason}\n".encode("ascii")


def quote_extra_data(nonce: bytes, spki: bytes, exporter: bytes, statement: bytes) -> bytes:
    """Return the quote's extraData.

    It binds this consumer's nonce, the TLS key and connection, and this statement.
    """
    if len(nonce) != 32 or len(exporter) != EXPORTER_BYTES:
        raise EvidenceError("a channel binds a nonce and an exporter of 32 bytes each")
    digests = hashlib.sha256(spki).digest(), hashlib.sha256(statement).digest()
    return hashlib.sha256(CONTEXT + nonce + digests[0] + exporter + digests[1]).digest()


def emit_statement(statement: Statement) -> bytes:
    """Return the statement's bytes."""
    return strict_json.dumps(
        {
            "boots": statement.boots,
            "certificate": str(statement.certificate),
            "image": str(statement.image or "none"),
            "lease": statement.lease,
            "model": str(statement.model),
            "receiptKey": statement.receipt_key,
            "terms": str(statement.terms),
        }
    )


def parse_statement(data: bytes) -> Statement:
    """Read a statement in its one form; EvidenceError for any other."""
    what = "the serving statement"
    fields = Fields(strict_json.loads(data, what=what, max_bytes=MAX_STATEMENT), what)
    image = fields.text("image")
    statement = Statement(
        lease=fields.hex("lease", LEASE_DIGITS),
        terms=Digest.parse(fields.text("terms")),
        model=Digest.parse(fields.text("model")),
        certificate=Digest.parse(fields.text("certificate")),
        image=None if image == "none" else Digest.parse(image),
        receipt_key=fields.text("receiptKey"),
        boots=fields.integer("boots", low=1),
    )
    fields.done()
    if not is_hex(statement.receipt_key, 2 * NAME_BYTES) or emit_statement(statement) != data:
        raise EvidenceError(f"{what} is not in canonical form")
    return statement


def emit(evidence: Evidence) -> bytes:
    """Return the evidence as it is sent over the channel."""
    return strict_json.dumps(
        {
            "akChain": [b64encode(der) for der in evidence.ak_chain],
            "meter": signed_json(evidence.meter),
            "nonce": evidence.nonce.hex(),
            "pcrs": {str(index): value.hex() for index, value in evidence.pcrs.items()},
            "quote": signed_json(evidence.quote),
            "receiptKey": certified_json(evidence.receipt_key),
            "statement": b64encode(evidence.statement),
            "terms": b64encode(evidence.terms),
        }
    )


def parse(data: bytes) -> Evidence:
    """Read evidence in its one form; EvidenceError for any other."""
    fields = Fields(strict_json.loads(data, what=WHAT, max_bytes=MAX_BYTES), WHAT)
    pcrs = fields.fields("pcrs")
    evidence = Evidence(
        nonce=bytes.fromhex(fields.hex("nonce")),
        ak_chain=read_chain(fields),
        quote=read_signed(fields.fields("quote"), max_bytes=MAX_TPM),
        pcrs={index: bytes.fromhex(pcrs.hex(str(index))) for index in QUOTED_PCRS},
        receipt_key=read_certified(fields.fields("receiptKey")),
        meter=read_signed(fields.fields("meter"), max_bytes=MAX_TPM),
        terms=b64decode(fields, "terms", max_bytes=terms.MAX_BYTES),
        statement=b64decode(fields, "statement", max_bytes=MAX_STATEMENT),
    )
    pcrs.done()
    fields.done()
    if emit(evidence) != data:
        raise EvidenceError(f"{WHAT} is not in canonical form")
    return evidence
