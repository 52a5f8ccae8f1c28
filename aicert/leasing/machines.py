"""The checks for every machine, whoever judges it: whose TPM it is, what it quoted, what booted.

Custodian and consumer make the same checks for a machine that enrols and for one that serves; `Ids`
holds their names. The image is identified by comparing the quoted registers with the locks that the
policy holds and accepts, not by anything that the machine says about itself.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from aicert.appraisal.ak_chain import CertifiedKey, verify_chain
from aicert.appraisal.checks.boot import check_firmware
from aicert.appraisal.policy import FIRMWARE_PCRS, Policy
from aicert.appraisal.result import below_vtpm, is_confidential, tier_rank
from aicert.appraisal.revoked_images import why_revoked
from aicert.crypto.signatures import verify_signature
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import tpm
from aicert.formats.certificate import Signed
from aicert.formats.image_lock import ImageLock
from aicert.formats.measurement import QUOTED_PCRS, ZERO
from aicert.lease import licence
from aicert.lease.checks import RefusedError, checking
from aicert.lease.enrolment import CertifiedPublic


class Ids(NamedTuple):
    """The names of the checks."""

    chain: str
    tier: str
    quote: str
    image: str
    firmware: str


ENROL: Final = Ids("enrol.chain", "enrol.tier", "enrol.quote", "enrol.image", "enrol.firmware")
SERVE: Final = Ids("serve.chain", "serve.tier", "serve.quote", "serve.image", "serve.firmware")


def platform(chain: Sequence[bytes], policy: Policy, at: datetime, ids: Ids) -> CertifiedKey:
    """Return the attestation key, if its chain leads to a root of a tier that the policy
    accepts.
    """
    with checking(ids.chain):
        ak = verify_chain(chain, policy.roots, at)
    tier = ak.root.tier
    if tier_rank(tier) < tier_rank(policy.tier):
        forged = "; its operator could have forged this" if below_vtpm(tier) else ""
        raise RefusedError(
            ids.tier,
            f"tier {tier}, but policy {policy.name} requires {policy.tier} or better{forged}",
        )
    if is_confidential(tier):
        raise UndecidedError(
            f"root {ak.root.name} is for confidential machines, but leases read no processor's "
            "report yet"
        )
    return ak


def quoted(given: Signed, pcrs: Mapping[int, bytes], ak: CertifiedKey, ids: Ids) -> tpm.Quote:
    """Return the quote over PCRs 0 to 15, if `ak` signed it and it covers these values."""
    with checking(ids.quote):
        signature = tpm.parse_signature(given.signature)
        verify_signature(ak.key, signature, given.attest)
        quote = tpm.parse_quote(given.attest)
        if tpm.selected_pcrs(quote) != QUOTED_PCRS:
            raise EvidenceError("the quote does not cover PCRs 0 to 15")
        if tpm.pcr_digest(pcrs, QUOTED_PCRS, signature) != quote.pcr_digest:
            raise EvidenceError("the PCR values do not match the quote")
        return quote


def booted(
    pcrs: Mapping[int, bytes], ak: CertifiedKey, policy: Policy, ids: Ids
) -> ImageLock | None:
    """Return the accepted image that gives these registers; None if nothing measures a boot."""
    if ak.root.tier == "software":
        # It was checked before that the policy accepts this tier.
        for index in (*FIRMWARE_PCRS, *licence.IMAGE_PCRS):
            if pcrs[index] != ZERO:
                raise RefusedError(ids.image, f"PCR {index} of a software platform is not zero")
        return None
    with checking(ids.firmware):
        check_firmware(policy, pcrs)
    if not policy.images:
        raise UndecidedError(f"policy {policy.name} has no image lock", hint="--image-lock LOCK")
    revoked = why_revoked(pcrs[11])
    if revoked is not None:
        raise RefusedError(ids.image, f"the image is revoked: {revoked}")
    for digest, lock in policy.images.items():
        is_accepted = digest in policy.accepted and digest not in policy.revoked
        if is_accepted and all(pcrs[index] == lock.pcrs[index] for index in licence.IMAGE_PCRS):
            return lock
    names = ", ".join(lock.name for lock in policy.images.values())
    raise RefusedError(ids.image, f"the machine booted something other than {names}")


def certified(
    key: CertifiedPublic, ak: CertifiedKey, quote: tpm.Quote, nonce: bytes, hierarchy: int
) -> None:
    """Check that the AK certified this key, a primary key of `hierarchy`, in the quoted boot."""
    verify_signature(ak.key, tpm.parse_signature(key.certify.signature), key.certify.attest)
    attested = tpm.parse_certification(key.certify.attest, "the key's TPMS_ATTEST")
    name = tpm.sha256_name(key.public)
    if attested.extra_data != nonce:
        raise EvidenceError("it was certified for a different nonce")
    if attested.name != name:
        raise EvidenceError("the attestation key certified a different key")
    if attested.qualified_name != tpm.qualified_name_of_primary(hierarchy, name):
        raise EvidenceError("it is not a primary key of the hierarchy that it should belong to")
    if attested.qualified_signer != quote.qualified_signer:
        raise EvidenceError("it and the quote were signed by different keys")
    # One key signs both attestations, so within one boot even obfuscated counters are equal.
    if boot(attested.clock) != boot(quote.clock):
        raise EvidenceError("it was certified in a different boot from that of the quote")


def boot(clock: tpm.Clock) -> tuple[int, int, int]:
    """Return counters that are equal in two attestations by one key exactly if they are from one
    boot.
    """
    return clock.reset_count, clock.restart_count, clock.firmware_version


def require_zero(pcrs: Mapping[int, bytes], indices: Sequence[int], check: str) -> None:
    """Check that nothing was measured into these registers."""
    for index in indices:
        if pcrs[index] != ZERO:
            raise RefusedError(check, f"PCR {index} is not zero: {pcrs[index].hex()}")
