"""Evidence of serving machines with any values, signed with the forger's attestation key."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.formats.certificate import Signed
from aicert.lease import licence, serving, terms, tpm_policy
from aicert.lease.enrolment import CertifiedPublic
from aicert.lease.serving import Evidence, Statement
from aicert.lease.terms import Terms
from aicert.leasing import serving as judging
from aicert.leasing.serving import Channel, Served
from tests.adversarial import tpm_forge
from tests.adversarial.enrolment_forge import (
    AK,
    AT,
    RECEIPTS,
    TPM,
    ak_certificate,
    policy,
    receipt_public,
    registers,
)
from tests.vectors.leases import IMAGE, LEASE, agreed

NONCE, EXPORTER = b"\x11" * 32, b"\x22" * 32
SPKI = b"the TLS key's SubjectPublicKeyInfo"
CHANNEL = Channel(nonce=NONCE, spki=SPKI, exporter=EXPORTER)


def statement(of: Terms, **changes: Any) -> Statement:
    given: dict[str, Any] = {
        "lease": of.lease, "terms": of.digest, "model": of.model, "certificate": of.certificate,
        "image": IMAGE.digest, "boots": 3,
        "receipt_key": tpm_forge.name_of(receipt_public(registers())).hex(),
    }  # fmt: skip
    return Statement(**given | changes)


@dataclass
class Machine:
    """An honest serving machine before it signs; an attack changes any part."""

    nonce: bytes = NONCE
    bound: Channel = CHANNEL
    chain: tuple[bytes, ...] = field(default_factory=lambda: (ak_certificate(),))
    ak: Any = AK
    of: Terms = field(default_factory=agreed)
    stated: dict[str, Any] = field(default_factory=dict)
    statement: bytes | None = None
    bound_statement: bytes | None = None
    terms: bytes | None = None
    values: dict[str, bytes] = field(default_factory=dict)
    quoted: dict[str, Any] = field(default_factory=dict)
    receipt_public: bytes | None = None
    receipt_hierarchy: int = tpm_forge.RH_ENDORSEMENT
    certified: dict[str, Any] = field(default_factory=dict)
    meter: dict[str, Any] = field(default_factory=dict)

    def signed(self) -> Evidence:
        text = terms.emit(self.of)
        claims = self.statement or serving.emit_statement(statement(self.of, **self.stated))
        serves = serving.serving_register(text, self.of.model)
        values = registers(**{"pcr14": serves, **self.values})
        extra = serving.quote_extra_data(
            self.bound.nonce, self.bound.spki, self.bound.exporter, self.bound_statement or claims
        )
        joined = b"".join(values[index] for index in range(16))
        body = tpm_forge.quote_body(
            tpm_forge.selections(tpm_forge.selection(range(16))), hashlib.sha256(joined).digest()
        )
        given: dict[str, Any] = {
            "body": body,
            "kind": tpm_forge.QUOTE,
            "extra": extra,
            "signer": TPM,
        }
        public = self.receipt_public or receipt_public(registers())
        return Evidence(
            nonce=self.nonce,
            ak_chain=self.chain,
            quote=by(self.ak, given | self.quoted),
            pcrs=values,
            receipt_key=CertifiedPublic(public=public, certify=self._certify(public)),
            meter=self._meter(public, extra),
            terms=text if self.terms is None else self.terms,
            statement=claims,
        )

    def _certify(self, public: bytes) -> Signed:
        name = tpm_forge.name_of(public)
        qualified = tpm_forge.primary_qualified_name(name, self.receipt_hierarchy)
        given = {
            "body": tpm_forge.certify_body(name, qualified), "kind": tpm_forge.CERTIFY,
            "extra": self.nonce, "signer": TPM,
        }  # fmt: skip
        return by(self.ak, given | self.certified)

    def _meter(self, public: bytes, bound: bytes) -> Signed:
        name = tpm_policy.counter_name(licence.METER_INDEX)
        own = tpm_forge.primary_qualified_name(tpm_forge.name_of(public), tpm_forge.RH_ENDORSEMENT)
        given = {
            "body": tpm_forge.counter_body(name, 77), "kind": tpm_forge.NV,
            "extra": hashlib.sha256(bound).digest(), "signer": own,
        }  # fmt: skip
        return by(RECEIPTS, given | self.meter)


def by(key: Any, given: dict[str, Any]) -> Signed:
    """Return an attestation of the given values, signed by that key."""
    attest = tpm_forge.attest(**given)
    return Signed(attest=attest, signature=tpm_forge.sign(key, attest))


def judged(
    machine: Machine,
    certified: AttestationResult,
    *,
    rules: Policy | None = None,
    channel: Channel = CHANNEL,
    lease: str = LEASE,
) -> Served:
    """Emit and parse the evidence, and appraise it as a consumer does."""
    given = serving.parse(serving.emit(machine.signed()))
    return judging.appraise(
        given, channel, rules or policy(), lease=lease, certified=certified, at=AT
    )
