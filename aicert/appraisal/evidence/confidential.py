"""Appraise a confidential machine: platform.chip, platform.guest, platform.binding (ADR 10).

The processor's report is believed only once its signature chains to a root of the policy. Then it
says which guest it is for and in which state, and that guest's paravisor says which attestation key
its virtual TPM has. So the key that signed the quote is in a guest that its host cannot look into.
Imported only if the policy's root stands for such machines. `snp_guest.py` and `tdx_guest.py` judge
each kind of processor.
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
    """A report signed by a processor of one of the policy's makers; each method decides a check."""

    def described(self) -> str:
        """Return, in words, which processor signed the report."""

    def check_guest(self, policy: Policy, at: datetime, /) -> str:
        """Check that the guest's memory is private, and that the policy accepts the guest."""

    def check_binding(self, nonce: bytes, key: "PublicKeyTypes", /) -> str:
        """Check that the attestation key belongs to that guest."""


def appraise_chip(
    checklist: Checklist, certificate: Certificate, policy: Policy, key: CertifiedKey, at: datetime
) -> None:
    """Decide platform.chip, platform.guest and platform.binding; called after platform.chain."""
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


def is_td(given: PlatformReport) -> bool:
    """Return whether a verified report is from a TD; Intel's lists say whether its certificates are
    revoked.
    """
    return given.kind != AZURE_HCL or azure_hcl.parse(given.report).kind != azure_hcl.SNP


def _verified(given: PlatformReport, policy: Policy, at: datetime) -> Verified:
    """Verify the report of an AMD guest, or of a TD: in Azure under a paravisor, or a bare one."""
    hcl = azure_hcl.parse(given.report) if given.kind == AZURE_HCL else None
    if hcl is not None and hcl.kind == azure_hcl.SNP:
        return snp_guest.verify(given, hcl, policy, at)
    if not policy.td_roots:
        raise UndecidedError(f"policy {policy.name} names no maker of processors with TDX")
    from aicert.appraisal.evidence import tdx_guest

    quote = given.report if hcl is None else given.quote
    if quote is None:
        raise UndecidedError(
            "the certificate lacks the TD quote, and only its processor could check the report"
        )
    collateral = given.collateral if given.given_collateral is None else given.given_collateral
    return tdx_guest.verify(quote, collateral, policy, at, None if hcl is None else hcl.runtime)
