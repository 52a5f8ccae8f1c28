"""Enrolments with any values, signed with keys that the forger holds; any part can be replaced."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aicert.appraisal.ak_chain import EKU_AK, Root
from aicert.appraisal.policy import Firmware, Policy
from aicert.formats.certificate import Signed
from aicert.formats.digest import Digest
from aicert.lease import enrolment, licence, receipts, tpm_policy
from aicert.lease.enrolment import CertifiedPublic, Enrolment
from aicert.leasing import enrolments
from aicert.leasing.enrolments import Enrolled
from tests.adversarial import ca_forge, tpm_forge
from tests.vectors.leases import FIRMWARE, IMAGE, LEASE, STORAGE, agreed

AT = ca_forge.AT
CA, AK, RECEIPTS = (ca_forge.ec_key(f"enrol {name}") for name in ("ca", "ak", "receipts"))
NONCE = bytes(range(32))
ROOT = Root(
    name="machines of the test",
    der=ca_forge.root("enrol ca", CA, driver="qemu"),
    tier="measured-vm",
    simulated="qemu",
)
TPM = b"\x00\x0b" + b"\x07" * 32
OWNER, ENDORSEMENT = tpm_forge.RH_OWNER, tpm_forge.RH_ENDORSEMENT


def policy(**changes: Any) -> Policy:
    given: dict[str, Any] = {
        "name": "test", "tier": "measured-vm", "roots": (ROOT,),
        "accepted": frozenset((IMAGE.digest,)), "images": {IMAGE.digest: IMAGE},
        "firmware": (Firmware(name="firmware", pcrs=FIRMWARE),),
    }  # fmt: skip
    return Policy(**given | changes)


def registers(**changes: bytes) -> dict[int, bytes]:
    """Return PCRs 0 to 15 of the leased image; `pcr4=…` changes PCR 4."""
    values = dict.fromkeys(range(16), b"\x55" * 32) | licence.registers(FIRMWARE, IMAGE)
    return values | {int(name.removeprefix("pcr")): value for name, value in changes.items()}


def ak_certificate(issuer_key: Any = CA, driver: str = "qemu") -> bytes:
    return ca_forge.issue(
        "ak", AK, issuer="enrol ca", issuer_key=issuer_key, purposes=(EKU_AK,), driver=driver,
        key_usage=ca_forge.usage(),
    )  # fmt: skip


def receipt_public(values: dict[int, bytes], **changes: Any) -> bytes:
    given: dict[str, Any] = {
        "attributes": receipts.RECEIPT_KEY_ATTRIBUTES, "policy": licence.receipt_policy(values),
    }  # fmt: skip
    return tpm_forge.ecc_public(RECEIPTS.public_key(), **given | changes)


@dataclass
class Scene:
    """An honest enrolment before it is signed; an attack changes any part."""

    lease: str = LEASE
    terms: Digest = field(default_factory=lambda: agreed().digest)
    nonce: bytes = NONCE
    bound_nonce: bytes = NONCE
    chain: tuple[bytes, ...] = field(default_factory=lambda: (ak_certificate(),))
    ak: Any = AK
    receipts: Any = RECEIPTS
    values: dict[int, bytes] = field(default_factory=registers)
    shown: dict[int, bytes] | None = None
    receipt_public: bytes | None = None
    storage_public: bytes = STORAGE
    receipt_hierarchy: int = ENDORSEMENT
    storage_hierarchy: int = OWNER
    certified: dict[str, Any] = field(default_factory=dict)
    storage_certified: dict[str, Any] = field(default_factory=dict)
    quoted: dict[str, Any] = field(default_factory=dict)
    selected: tuple[int, ...] = tuple(range(16))
    meter: dict[str, Any] = field(default_factory=dict)
    epoch: dict[str, Any] = field(default_factory=dict)

    def signed(self) -> Enrolment:
        public = self.receipt_public or receipt_public(self.values)
        return Enrolment(
            lease=self.lease,
            terms=self.terms,
            nonce=self.nonce,
            ak_chain=self.chain,
            quote=self._quote(public),
            pcrs=self.values if self.shown is None else self.shown,
            receipt_key=self._certify(public, self.receipt_hierarchy, self.certified),
            storage_key=self._certify(
                self.storage_public, self.storage_hierarchy, self.storage_certified
            ),
            meter=self._counter(public, licence.METER_INDEX, 10, self.meter),
            epoch=self._counter(public, licence.EPOCH_INDEX, 3, self.epoch),
        )

    def _quote(self, public: bytes) -> Signed:
        names = (tpm_forge.name_of(public), tpm_forge.name_of(self.storage_public))
        extra = enrolment.quote_extra_data(self.bound_nonce, self.terms, *names)
        joined = b"".join(self.values[index] for index in range(16))
        body = tpm_forge.quote_body(
            tpm_forge.selections(tpm_forge.selection(self.selected)),
            hashlib.sha256(joined).digest(),
        )
        given = {"body": body, "kind": tpm_forge.QUOTE, "extra": extra, "signer": TPM}
        return self._by_ak(given | self.quoted)

    def _certify(self, public: bytes, hierarchy: int, given: dict[str, Any]) -> CertifiedPublic:
        changes = dict(given)
        name = tpm_forge.name_of(changes.pop("public", public))
        qualified = tpm_forge.primary_qualified_name(name, hierarchy)
        usual = {
            "body": tpm_forge.certify_body(name, qualified),
            "kind": tpm_forge.CERTIFY,
            "extra": self.nonce,
            "signer": TPM,
        }
        return CertifiedPublic(public=public, certify=self._by_ak(usual | changes))

    def _by_ak(self, given: dict[str, Any]) -> Signed:
        attest = tpm_forge.attest(**given)
        return Signed(attest=attest, signature=tpm_forge.sign(self.ak, attest))

    def _counter(self, public: bytes, index: int, value: int, given: dict[str, Any]) -> Signed:
        changes = dict(given)
        name = tpm_policy.counter_name(changes.pop("index", index))
        own = tpm_forge.primary_qualified_name(tpm_forge.name_of(public), ENDORSEMENT)
        usual: dict[str, Any] = {
            "body": tpm_forge.counter_body(name, value),
            "kind": tpm_forge.NV,
            "extra": hashlib.sha256(self.nonce).digest(),
            "signer": own,
        }
        attest = tpm_forge.attest(**usual | changes)
        return Signed(attest=attest, signature=tpm_forge.sign(self.receipts, attest))


def judged(
    scene: Scene, rules: Policy | None = None, *, at: datetime = AT, nonce: bytes | None = NONCE
) -> Enrolled:
    """Emit and parse the enrolment, and appraise it as the custodian does."""
    given = enrolment.parse(enrolment.emit(scene.signed()))
    return enrolments.appraise(
        given, agreed(), rules or policy(), at=at.astimezone(UTC), nonce=nonce
    )
