"""An enrolment: what a machine shows a custodian who has never seen it, in answer to a nonce.

The platform's attestation key quotes the registers and certifies two keys of this TPM: the one that
receipts are signed with, and the storage key for which the lease is wrapped. The receipt key then
certifies both counters. The quote's extraData binds nonce, terms and all four Names. Canonical
JSON; reading proves nothing (`aicert.leasing` judges).
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.certificate import Signed, read_signed, signed_json
from aicert.formats.digest import Digest
from aicert.formats.dsse import b64decode, b64encode
from aicert.formats.measurement import QUOTED_PCRS
from aicert.formats.strict_json import Fields
from aicert.formats.tpm import NAME_BYTES, sha256_name
from aicert.frozen import dataclass
from aicert.lease import licence, tpm_policy
from aicert.lease.terms import LEASE_DIGITS

VERSION: Final = 1
CONTEXT: Final = b"aicert enrol v1\0"
WHAT: Final = "the enrolment"
MAX_BYTES: Final = 1 << 17
# A TPMS_ATTEST, a TPMT_SIGNATURE or a TPMT_PUBLIC.
MAX_TPM: Final = 1024
MAX_CERTIFICATE: Final = 8192
MAX_CHAIN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedPublic:
    """A TPMT_PUBLIC, and the attestation key's certification of it."""

    public: bytes
    certify: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """The content of an enrolment. `pcrs`: the SHA-256 bank, 0 to 15. `meter`, `epoch`: the receipt
    key's certifications of these counters.
    """

    lease: str
    terms: Digest
    nonce: bytes
    ak_chain: tuple[bytes, ...]
    quote: Signed
    pcrs: Mapping[int, bytes]
    receipt_key: CertifiedPublic
    storage_key: CertifiedPublic
    meter: Signed
    epoch: Signed


def quote_extra_data(nonce: bytes, terms: Digest, receipt_key: bytes, storage_key: bytes) -> bytes:
    """Return the quote's extraData, from the Names of both keys and of the fixed counters."""
    names = (
        receipt_key,
        storage_key,
        tpm_policy.counter_name(licence.METER_INDEX),
        tpm_policy.counter_name(licence.EPOCH_INDEX),
    )
    if len(nonce) != 32 or any(len(name) != NAME_BYTES for name in names):
        raise EvidenceError("an enrolment binds a nonce of 32 bytes and Names of 34")
    bound = CONTEXT + nonce + bytes.fromhex(terms.hex) + b"".join(names)
    return hashlib.sha256(bound).digest()


def names(enrolment: Enrolment) -> tuple[bytes, bytes]:
    """Return the Names of receipt key and storage key, recomputed from their public areas."""
    return sha256_name(enrolment.receipt_key.public), sha256_name(enrolment.storage_key.public)


def emit(enrolment: Enrolment) -> bytes:
    """Return the bytes of an enrolment."""
    return strict_json.dumps(
        {
            "akChain": [b64encode(der) for der in enrolment.ak_chain],
            "counters": {
                "epoch": signed_json(enrolment.epoch),
                "meter": signed_json(enrolment.meter),
            },
            "kind": "aicert enrolment",
            "lease": enrolment.lease,
            "nonce": enrolment.nonce.hex(),
            "pcrs": {str(index): value.hex() for index, value in enrolment.pcrs.items()},
            "quote": signed_json(enrolment.quote),
            "receiptKey": certified_json(enrolment.receipt_key),
            "storageKey": certified_json(enrolment.storage_key),
            "terms": str(enrolment.terms),
            "version": VERSION,
        }
    )


def parse(data: bytes) -> Enrolment:
    """Read an enrolment in its one form; EvidenceError for any other."""
    fields = Fields(strict_json.loads(data, what=WHAT, max_bytes=MAX_BYTES), WHAT)
    fields.const("kind", "aicert enrolment")
    fields.const("version", VERSION)
    counters, pcrs = fields.fields("counters"), fields.fields("pcrs")
    enrolment = Enrolment(
        lease=fields.hex("lease", LEASE_DIGITS),
        terms=Digest.parse(fields.text("terms")),
        nonce=bytes.fromhex(fields.hex("nonce")),
        ak_chain=read_chain(fields),
        quote=read_signed(fields.fields("quote"), max_bytes=MAX_TPM),
        pcrs={index: bytes.fromhex(pcrs.hex(str(index))) for index in QUOTED_PCRS},
        receipt_key=read_certified(fields.fields("receiptKey")),
        storage_key=read_certified(fields.fields("storageKey")),
        meter=read_signed(counters.fields("meter"), max_bytes=MAX_TPM),
        epoch=read_signed(counters.fields("epoch"), max_bytes=MAX_TPM),
    )
    for each in (counters, pcrs, fields):
        each.done()
    if enrolment.terms.kind != "sha256" or emit(enrolment) != data:
        raise EvidenceError(f"{WHAT} is not in canonical form")
    return enrolment


def certified_json(key: CertifiedPublic) -> dict[str, object]:
    """Return a certified key as JSON-ready values."""
    return {"certify": signed_json(key.certify), "public": b64encode(key.public)}


def read_certified(fields: Fields) -> CertifiedPublic:
    """Read a certified key, as `certified_json` writes it."""
    key = CertifiedPublic(
        public=b64decode(fields, "public", max_bytes=MAX_TPM),
        certify=read_signed(fields.fields("certify"), max_bytes=MAX_TPM),
    )
    fields.done()
    return key


def read_chain(fields: Fields) -> tuple[bytes, ...]:
    """Read the attestation key's certificates (DER), leaf first."""

    def certificate(value: object, where: str) -> bytes:
        return b64decode(Fields({"der": value}, where), "der", max_bytes=MAX_CERTIFICATE)

    return fields.items("akChain", certificate, max_items=MAX_CHAIN)
