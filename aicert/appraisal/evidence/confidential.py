"""Appraise a confidential machine: platform.chip, platform.guest, platform.binding (ADR 10).

The processor's report is believed only once its signature led to a root of the policy. Then it says
whose guest it is and in which state; and that guest's paravisor says which attestation key is its
virtual TPM's. So the quote's key is in a guest that its host cannot look into. Imported only where
the policy's root stands for such machines. What each kind of processor says is judged by
`snp_guest.py` and `tdx.py`.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from aicert.appraisal.ak_chain import CertifiedKey
from aicert.appraisal.checklist import Checklist
from aicert.appraisal.evidence import azure_hcl, snp_guest
from aicert.appraisal.policy import Policy
from aicert.errors import UndecidedError
from aicert.formats.certificate import AZURE_HCL, Certificate, PlatformReport

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


class Verified(Protocol):
    """A report that a processor of one of the policy's makers signed; each answer may be a no."""

    def described(self) -> str:
        """Whose processor it is."""

    def check_guest(self, policy: Policy, at: datetime, /) -> str:
        """The guest's memory is its own, and it is one that the policy accepts."""

    def check_binding(self, nonce: bytes, key: "PublicKeyTypes", /) -> str:
        """The attestation key is that guest's."""


def appraise_chip(
    checklist: Checklist, certificate: Certificate, policy: Policy, key: CertifiedKey, at: datetime
) -> None:
    """The three checks, after platform.chain."""
    evidence = certificate.evidence

    def chip(_: CertifiedKey) -> tuple[str, Verified]:
        if evidence.platform is None:
            raise UndecidedError("the certificate carries no report from a confidential machine")
        report = _verified(evidence.platform, policy, at)
        return report.described(), report

    def guest(report: Verified) -> tuple[str, None]:
        return report.check_guest(policy, at), None

    def binding(report: Verified) -> tuple[str, None]:
        return report.check_binding(evidence.nonce, key.key), None

    verified: Verified | None = checklist.step("platform.chip", chip, key, "platform.chain")
    checklist.step("platform.guest", guest, verified, "platform.chip")
    checklist.step("platform.binding", binding, verified, "platform.chip")


def _verified(given: PlatformReport, policy: Policy, at: datetime) -> Verified:
    """The report of an AMD guest, or of a TD: of Azure with its paravisor, or a bare one."""
    hcl = azure_hcl.parse(given.report) if given.kind == AZURE_HCL else None
    if hcl is not None and hcl.kind == azure_hcl.SNP:
        return snp_guest.verify(given, hcl, policy, at)
    if not policy.td_roots:
        raise UndecidedError(f"policy {policy.name} names no maker of processors with TDX")
    from aicert.appraisal.evidence import tdx

    quote = given.report if hcl is None else given.quote
    if quote is None:
        raise UndecidedError(
            "the certificate lacks the TD quote, and only its processor could check the report"
        )
    collateral = given.collateral if given.given_collateral is None else given.given_collateral
    return tdx.verify(quote, collateral, policy, at, None if hcl is None else hcl.runtime)
