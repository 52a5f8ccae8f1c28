"""Appraise the quote: quote.* (docs/spec/certificate.md).

Only `appraise_quote` makes a VerifiedQuote, after it has checked the AK's signature, the structure,
the challenge and the PCR values; nothing else in the evidence is compared with expectations.
"""

from collections.abc import Mapping

from aicert.appraisal.ak_chain import CertifiedKey
from aicert.appraisal.checklist import Checklist, both
from aicert.crypto.signatures import verify_signature
from aicert.errors import EvidenceError
from aicert.formats import tpm
from aicert.formats.certificate import Certificate
from aicert.formats.measurement import QUOTED_PCRS
from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote:
    """PCR values that the certified AK signed together with the challenge.

    `clock`: the TPM's clock in the quote.
    """

    pcrs: Mapping[int, bytes]
    clock: tpm.Clock
    qualified_signer: bytes

    def check_register(
        self, index: int, expected: bytes, refusal: str, *, hint: str | None = None
    ) -> None:
        """Raise EvidenceError with both values unless PCR `index` holds the expected one."""
        if self.pcrs[index] != expected:
            raise EvidenceError(
                f"{refusal}\nquoted    PCR {index} sha256:{self.pcrs[index].hex()}\n"
                f"expected  PCR {index} sha256:{expected.hex()}",
                hint=hint,
            )


def appraise_quote(
    checklist: Checklist, certificate: Certificate, key: CertifiedKey | None, nonce: bytes | None
) -> VerifiedQuote | None:
    """Decide quote.*; `nonce` is the caller's own challenge, None if it has none."""
    evidence = certificate.evidence

    def signature(by: CertifiedKey) -> tuple[str, tpm.Signature]:
        parsed = tpm.parse_signature(evidence.quote.signature)
        verify_signature(by.key, parsed, evidence.quote.attest)
        return f"signed by that AK ({parsed})", parsed

    def structure(_: tpm.Signature) -> tuple[str, tpm.Quote]:
        quote = tpm.parse_quote(evidence.quote.attest)
        selected = tpm.selected_pcrs(quote)
        if selected != QUOTED_PCRS:
            raise EvidenceError(f"the quote covers PCRs {list(selected)}, not 0 to 15")
        return "a TPM quote over PCRs 0 to 15, SHA-256", quote

    def challenge(quote: tpm.Quote) -> tuple[str, tpm.Quote]:
        if nonce is not None and not answers(certificate, nonce):
            raise EvidenceError(
                f"the certificate answers a different nonce\nfound     {evidence.nonce.hex()}\n"
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
            raise EvidenceError("the certificate's PCR values do not match the quote")
        verified = VerifiedQuote(
            pcrs=evidence.pcrs, clock=quote.clock, qualified_signer=quote.qualified_signer
        )
        return "the PCR values match the quote", verified

    signed = checklist.step("quote.signature", signature, key, "platform.chain")
    quote = checklist.step("quote.structure", structure, signed, "quote.signature")
    bound = checklist.step("quote.nonce", challenge, quote, "quote.structure")
    return checklist.step("quote.pcrs", pcrs, both(bound, signed), "quote.nonce")


def run_key_name(certificate: Certificate) -> bytes:
    """Return the SHA-256 Name of the run key's public area: recomputed, never taken from the
    evidence.

    runkey.certified decides whether these bytes are a public area at all, and whether this is their
    Name.
    """
    return tpm.sha256_name(certificate.evidence.run_key)


def answers(certificate: Certificate, challenge: bytes) -> bool:
    """Return whether the nonce is the caller's challenge, or was made from it and an
    earlier token.
    """
    if challenge == certificate.evidence.nonce:
        return True
    from aicert.appraisal.evidence.trusted_time import answers_later

    return answers_later(certificate, challenge)
