"""Appraise the platform: the AK's chain and tier, the quote, the run key (design: verifying).

Only `appraise_quote` makes a VerifiedQuote, after the AK's signature, the structure, the challenge
and the PCR values were all checked; nothing else of the evidence is compared with expectations.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.appraisal.ak_chain import CertifiedKey, verify_chain
from aicert.appraisal.checklist import Ledger, NotApplicableError, both
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import CHIP_CHECKS, below_vtpm, is_confidential, tier_rank
from aicert.crypto.signatures import ec_key, verify_signature
from aicert.errors import EvidenceError
from aicert.formats import tpm
from aicert.formats.certificate import Certificate
from aicert.formats.measurement import QUOTED_PCRS
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

# Design, 5: `fixedTPM|fixedParent|sensitiveDataOrigin|userWithAuth|stClear|sign` and no other bit:
# made inside this TPM, not restricted (it signs statements), gone at the next reset.
RUN_KEY_ATTRIBUTES = (
    tpm.FIXED_TPM
    | tpm.FIXED_PARENT
    | tpm.SENSITIVE_DATA_ORIGIN
    | tpm.USER_WITH_AUTH
    | tpm.ST_CLEAR
    | tpm.SIGN
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote:
    """PCR values that the certified AK signed, with the challenge; `clock` is that of the quote."""

    pcrs: Mapping[int, bytes]
    clock: tpm.Clock
    qualified_signer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRunKey:
    """A run key made in the quoted boot, that no other boot and no other TPM can have.

    `clock`: that of its certification, in milliseconds.
    """

    key: "EllipticCurvePublicKey"
    clock: int


def appraise_platform(
    ledger: Ledger, certificate: Certificate, policy: Policy, at: datetime
) -> CertifiedKey | None:
    """platform.*; the key that the policy's root vouches for."""

    def chain(given: Certificate) -> tuple[str, CertifiedKey]:
        key = verify_chain(given.evidence.ak_chain, policy.roots, at)
        return f"AK certificate chains to pinned root {key.root.name}", key

    def tier(key: CertifiedKey) -> tuple[str, None]:
        found = key.root.tier
        if tier_rank(found) < tier_rank(policy.tier):
            forged = "; its operator could have forged this" if below_vtpm(found) else ""
            raise EvidenceError(
                f"tier {found}, policy {policy.name} wants {policy.tier} or better{forged}"
            )
        return f"{found}, policy {policy.name} wants {policy.tier}", None

    key = ledger.step("platform.chain", chain, certificate)
    if key is not None and is_confidential(key.root.tier):
        from aicert.appraisal.checks.confidential import appraise_chip

        appraise_chip(ledger, certificate, policy, key, at)
    else:
        for check in CHIP_CHECKS:
            ledger.step(check, _no_processor_asked, key, "platform.chain")
    ledger.step("platform.tier", tier, key, *CHIP_CHECKS)
    return key


def _no_processor_asked(key: CertifiedKey) -> tuple[str, None]:
    raise NotApplicableError(f"root {key.root.name} (tier {key.root.tier}) does not ask for it")


def appraise_quote(
    ledger: Ledger, certificate: Certificate, key: CertifiedKey | None, nonce: bytes | None
) -> VerifiedQuote | None:
    """quote.*; `nonce` is the caller's own challenge, if it made one."""
    evidence = certificate.evidence

    def signature(by: CertifiedKey) -> tuple[str, tpm.Signature]:
        found = tpm.parse_signature(evidence.quote.signature)
        verify_signature(by.key, found, evidence.quote.attest)
        return f"signed by that AK ({found})", found

    def structure(_: tpm.Signature) -> tuple[str, tpm.Quote]:
        quote = tpm.parse_quote(evidence.quote.attest)
        selected = tpm.selected_pcrs(quote)
        if selected != QUOTED_PCRS:
            raise EvidenceError(f"the quote is over PCRs {list(selected)}, not over 0 to 15")
        return "a TPM quote over PCRs 0 to 15, SHA-256", quote

    def challenge(quote: tpm.Quote) -> tuple[str, tpm.Quote]:
        if nonce is not None and nonce != evidence.nonce:
            raise EvidenceError(
                f"the certificate answers another challenge\nfound     {evidence.nonce.hex()}\n"
                f"expected  {nonce.hex()}"
            )
        name = run_key_name(certificate)
        wanted = tpm.quote_extra_data(evidence.nonce, name, certificate.envelope.payload)
        if quote.extra_data != wanted:
            raise EvidenceError("the quote does not bind this nonce, run key and statement")
        fresh = "your nonce" if nonce is not None else "not fresh: you gave no nonce"
        return f"binds nonce, run key and statement ({fresh})", quote

    def pcrs(given: tuple[tpm.Quote, tpm.Signature]) -> tuple[str, VerifiedQuote]:
        quote, signed = given
        if tpm.pcr_digest(evidence.pcrs, QUOTED_PCRS, signed) != quote.pcr_digest:
            raise EvidenceError("the PCR values given are not those that were quoted")
        verified = VerifiedQuote(
            pcrs=evidence.pcrs, clock=quote.clock, qualified_signer=quote.qualified_signer
        )
        return "the PCR values are those that were quoted", verified

    signed = ledger.step("quote.signature", signature, key, "platform.chain")
    quote = ledger.step("quote.structure", structure, signed, "quote.signature")
    bound = ledger.step("quote.nonce", challenge, quote, "quote.structure")
    return ledger.step("quote.pcrs", pcrs, both(bound, signed), "quote.nonce")


def run_key_name(certificate: Certificate) -> bytes:
    """The SHA-256 Name of the run key's public area, recomputed; never one that the evidence says.

    Whether these bytes are a public area at all, and this their Name, is runkey.certified's.
    """
    return tpm.sha256_name(certificate.evidence.run_key)


def appraise_run_key(
    ledger: Ledger,
    certificate: Certificate,
    key: CertifiedKey | None,
    quote: VerifiedQuote | None,
) -> VerifiedRunKey | None:
    """runkey.certified: the AK certified this key, in the boot that it quoted."""
    evidence = certificate.evidence

    def certified(given: tuple[CertifiedKey, VerifiedQuote]) -> tuple[str, VerifiedRunKey]:
        by, verified = given
        signature = tpm.parse_signature(evidence.run_key_certify.signature)
        verify_signature(by.key, signature, evidence.run_key_certify.attest)
        said = tpm.parse_certification(evidence.run_key_certify.attest)
        public = tpm.parse_public(evidence.run_key)
        if said.extra_data != evidence.nonce:
            raise EvidenceError("the run key was certified for another nonce")
        _check_same_object(said, public)
        _check_run_key(public)
        _check_same_boot(said, verified)
        detail = "a P-256 key of this boot, certified by that AK under the NULL hierarchy"
        return detail, VerifiedRunKey(key=ec_key(public), clock=said.clock.clock)

    return ledger.step("runkey.certified", certified, both(key, quote), "quote.pcrs")


def appraise_run_time(
    ledger: Ledger,
    certificate: Certificate,
    run_key: VerifiedRunKey | None,
    quote: VerifiedQuote | None,
) -> float | None:
    """runkey.time: the seconds from the run key's certification to the quote, by the TPM's clock.

    Within one boot the clock only goes forward (Part 1, clause 36.3), so `safe`, which is about
    what it showed before the last reset, is not asked for.
    """

    def seconds(given: tuple[VerifiedRunKey, VerifiedQuote]) -> tuple[str, float]:
        if certificate.version == 1:
            raise NotApplicableError("version 1 certifies the run key at the run's end")
        start, end = given[0].clock, given[1].clock.clock
        if start > end:
            raise EvidenceError(
                "the run key was certified after the quote\n"
                f"run key   clock {start} ms\nquote     clock {end} ms"
            )
        took = (end - start) / 1000
        return f"{took:.3f} s from the run key's certification to the quote, by the TPM", took

    needs = ("runkey.certified", "quote.pcrs")
    return ledger.step("runkey.time", seconds, both(run_key, quote), *needs)


def _check_same_object(said: tpm.Certification, public: tpm.Public) -> None:
    """The certified Name is that of the public area, and of a primary under TPM_RH_NULL, which
    draws a new seed at every TPM reset (Part 1, clause 14.3).
    """
    if said.name != public.name:
        raise EvidenceError(
            f"the AK certified another key\nfound     {said.name.hex()}\n"
            f"expected  {public.name.hex()}"
        )
    if said.qualified_name != tpm.qualified_name_of_primary(tpm.RH_NULL, public.name):
        raise EvidenceError("the run key is no primary key of the NULL hierarchy")


def _check_run_key(public: tpm.Public) -> None:
    if public.type != tpm.ALG_ECC or public.curve != tpm.CURVE_P256:
        raise EvidenceError("the run key is not a P-256 key")
    if public.name_hash != tpm.ALG_SHA256:
        raise EvidenceError("the run key's Name is not made with SHA-256")
    if public.attributes != RUN_KEY_ATTRIBUTES:
        raise EvidenceError(
            f"the run key has attributes {public.attributes:#010x}, "
            f"{RUN_KEY_ATTRIBUTES:#010x} are wanted"
        )
    if public.auth_policy:
        raise EvidenceError("the run key has an authorisation policy, none is wanted")
    scheme = (public.symmetric, public.scheme, public.scheme_hash)
    if scheme != (tpm.ALG_NULL, tpm.ALG_ECDSA, tpm.ALG_SHA256):
        raise EvidenceError("the run key's scheme is not ECDSA with SHA-256")


def _check_same_boot(said: tpm.Certification, quote: VerifiedQuote) -> None:
    """The counters are obfuscated per signing key (Part 1, clause 36.7), so two attestations by one
    AK have equal ones exactly where they are of one boot.
    """
    boots = [
        (clock.reset_count, clock.restart_count, clock.firmware_version)
        for clock in (said.clock, quote.clock)
    ]
    if boots[0] != boots[1]:
        raise EvidenceError(
            "the run key was certified in another boot than the quoted one\n"
            f"run key   reset {boots[0][0]}, restart {boots[0][1]}, firmware {boots[0][2]:#x}\n"
            f"quote     reset {boots[1][0]}, restart {boots[1][1]}, firmware {boots[1][2]:#x}"
        )
    if said.qualified_signer != quote.qualified_signer:
        raise EvidenceError("the run key and the quote were signed by different AKs")
