"""Appraise the run key: made in the quoted boot and certified by the attestation key (runkey.*).

Only `appraise_run_key` makes a VerifiedRunKey, after the quote was verified.
"""

from typing import TYPE_CHECKING

from aicert.appraisal.ak_chain import CertifiedKey
from aicert.appraisal.checklist import Checklist, NotApplicableError, both, check_equal
from aicert.appraisal.checks.quote import VerifiedQuote
from aicert.crypto.signatures import ec_key, verify_signature
from aicert.errors import EvidenceError
from aicert.formats import tpm
from aicert.formats.certificate import Certificate
from aicert.formats.machine_io import RUN_KEY_ATTRIBUTES
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRunKey:
    """A run key made in the quoted boot; no other boot and no other TPM can have it.

    `clock`: the TPM's clock when it certified the key, in milliseconds.
    """

    key: "EllipticCurvePublicKey"
    clock: int


def appraise_run_key(
    checklist: Checklist,
    certificate: Certificate,
    key: CertifiedKey | None,
    quote: VerifiedQuote | None,
) -> VerifiedRunKey | None:
    """Decide runkey.certified: the AK certified this key, in the boot that it quoted."""
    evidence = certificate.evidence

    def certified(given: tuple[CertifiedKey, VerifiedQuote]) -> tuple[str, VerifiedRunKey]:
        by, verified = given
        signature = tpm.parse_signature(evidence.run_key_certify.signature)
        verify_signature(by.key, signature, evidence.run_key_certify.attest)
        certified = tpm.parse_certification(evidence.run_key_certify.attest)
        public = tpm.parse_public(evidence.run_key)
        if certified.extra_data != evidence.nonce:
            raise EvidenceError("the run key was certified for a different nonce")
        _check_same_object(certified, public)
        _check_run_key(public)
        _check_same_boot(certified, verified)
        detail = "a P-256 key of this boot, certified by that AK under the NULL hierarchy"
        return detail, VerifiedRunKey(key=ec_key(public), clock=certified.clock.clock)

    return checklist.step("runkey.certified", certified, both(key, quote), "quote.pcrs")


def appraise_run_time(
    checklist: Checklist,
    certificate: Certificate,
    run_key: VerifiedRunKey | None,
    quote: VerifiedQuote | None,
) -> float | None:
    """Decide runkey.time: return the seconds from the run key's certification to the quote.

    The time is the TPM's. Within one boot its clock only goes forward (Part 1, clause 36.3), so the
    flag `safe`, which is about the time before the last reset, does not matter.
    """

    def seconds(given: tuple[VerifiedRunKey, VerifiedQuote]) -> tuple[str, float]:
        if certificate.version == 1:
            raise NotApplicableError("in version 1 the run key is certified only when the run ends")
        start, end = given[0].clock, given[1].clock.clock
        if start > end:
            raise EvidenceError(
                "the run key was certified after the quote\n"
                f"run key   clock {start} ms\nquote     clock {end} ms"
            )
        took = (end - start) / 1000
        detail = f"{took:.3f} s by the TPM's clock, from the run key's certification to the quote"
        return detail, took

    needs = ("runkey.certified", "quote.pcrs")
    return checklist.step("runkey.time", seconds, both(run_key, quote), *needs)


def _check_same_object(certified: tpm.Certification, public: tpm.Public) -> None:
    """Check that the certified Name is the public area's, and that the key is a primary key of
    TPM_RH_NULL.

    That hierarchy gets a new seed at every TPM reset (Part 1, clause 14.3).
    """
    check_equal(certified.name.hex(), public.name.hex(), "the AK certified a different key")
    if certified.qualified_name != tpm.qualified_name_of_primary(tpm.RH_NULL, public.name):
        raise EvidenceError("the run key is not a primary key of the NULL hierarchy")


def _check_run_key(public: tpm.Public) -> None:
    if public.type != tpm.ALG_ECC or public.curve != tpm.CURVE_P256:
        raise EvidenceError("the run key is not a P-256 key")
    if public.name_hash != tpm.ALG_SHA256:
        raise EvidenceError("the run key's Name does not use SHA-256")
    if public.attributes != RUN_KEY_ATTRIBUTES:
        shown, wanted = (f"{value:#010x}" for value in (public.attributes, RUN_KEY_ATTRIBUTES))
        raise EvidenceError(f"the run key has attributes {shown}, expected {wanted}")
    if public.auth_policy:
        raise EvidenceError("the run key has an authorisation policy, but must have none")
    scheme = (public.symmetric, public.scheme, public.scheme_hash)
    if scheme != (tpm.ALG_NULL, tpm.ALG_ECDSA, tpm.ALG_SHA256):
        raise EvidenceError("the run key's scheme is not ECDSA with SHA-256")


def _check_same_boot(certified: tpm.Certification, quote: VerifiedQuote) -> None:
    """Check that the run key was certified in the boot of the quote, and by the same AK.

    The counters are obfuscated per signing key (Part 1, clause 36.7), so two attestations by one AK
    have equal counters exactly if they are from one boot.
    """
    boots = [
        (clock.reset_count, clock.restart_count, clock.firmware_version)
        for clock in (certified.clock, quote.clock)
    ]
    if boots[0] != boots[1]:
        raise EvidenceError(
            "the run key was certified in a different boot than the quote\n"
            f"run key   reset {boots[0][0]}, restart {boots[0][1]}, firmware {boots[0][2]:#x}\n"
            f"quote     reset {boots[1][0]}, restart {boots[1][1]}, firmware {boots[1][2]:#x}"
        )
    if certified.qualified_signer != quote.qualified_signer:
        raise EvidenceError("the run key and the quote were signed by different AKs")
