"""Judge the report of an AMD guest (SEV-SNP) for platform.chip and platform.guest.

`amd_vcek` says whose processor signed it, `snp_report` what the report says, `azure_hcl` which TPM
the guest holds; this module compares them with each other and with the policy.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aicert.appraisal.evidence import amd_vcek, azure_hcl, snp_report
from aicert.appraisal.policy import Policy
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.certificate import PlatformReport
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReport:
    """A processor's report whose signature was verified, and the text that it must cover."""

    report: snp_report.Report
    chip: amd_vcek.CertifiedChip
    runtime: bytes

    def described(self) -> str:
        """Return one line that says which processor signed the report."""
        root, tcb = self.chip.root, amd_vcek.tcb_text(self.chip.tcb)
        known = f"; {root.known}" if root.known else ""
        return f"signed by a processor of {root.name} ({tcb}){known}"

    def check_guest(self, policy: Policy, at: datetime) -> str:
        """Check that the guest's memory is private, and that the policy accepts firmware and
        signer.
        """
        snp_report.check_guest(self.report)
        _check_firmware(self.chip, policy)
        return f"started by {_started_by(self, policy, at)}, without debugging or migration"

    def check_binding(self, _nonce: bytes, key: "PublicKeyTypes") -> str:
        """Check that the attestation key belongs to that guest's TPM, according to its
        paravisor.
        """
        return azure_hcl.check_binding(self.report.report_data, self.runtime, key)


def verify(
    given: PlatformReport, hcl: azure_hcl.HclReport, policy: Policy, at: datetime
) -> VerifiedReport:
    """Return the report in `hcl`, if a processor that a root of the policy certifies signed it."""
    if not policy.chips:
        raise UndecidedError(f"policy {policy.name} names no maker of processors")
    report = snp_report.parse(hcl.hardware)
    if given.chip_certificate is None:
        raise UndecidedError(
            "the certificate lacks the processor's own certificate (VCEK): whoever ran "
            "the machine can add "
            "it (docs/spec/confidential.md)"
        )
    vlek = report.signing_key == snp_report.VLEK
    if vlek and not any(root.vlek for root in policy.chips):
        raise UndecidedError(
            f"a cloud's own key signed the report (VLEK), and policy {policy.name} names no "
            '[[chip]] with key = "vlek"'
        )
    chip = amd_vcek.certify_chip(given.chip_certificate, policy.chips, at, vlek=vlek)
    if chip.chip_id not in (None, report.chip_id):
        raise EvidenceError(
            "the chip certificate is for a different processor\n"
            f"found     {(chip.chip_id or b'').hex()}\nexpected  {report.chip_id.hex()}"
        )
    if chip.tcb != report.tcb:
        raise EvidenceError(
            "the chip certificate is for different firmware versions\n"
            f"found     {amd_vcek.tcb_text(chip.tcb)}\nexpected  {amd_vcek.tcb_text(report.tcb)}"
        )
    snp_report.verify(report, chip.key)
    return VerifiedReport(report=report, chip=chip, runtime=hcl.runtime)


def _check_firmware(chip: amd_vcek.CertifiedChip, policy: Policy) -> None:
    places = amd_vcek.COMPONENTS
    old = [
        f"{name} {chip.tcb[places[name]]} is below {least}"
        for name, least in chip.root.minimum.items()
        if chip.tcb[places[name]] < least
    ]
    if old:
        raise EvidenceError(
            f"the processor's firmware is too old for policy {policy.name} on {chip.root.name}: "
            f"{', '.join(old)}\nfound     {amd_vcek.tcb_text(chip.tcb)}"
        )


def _started_by(given: VerifiedReport, policy: Policy, at: datetime) -> str:
    """Return the name of the accepted signer of the software with which the guest started.

    A different paravisor could say anything in its runtime data.
    """
    if not policy.id_key_signers:
        raise UndecidedError(f"policy {policy.name} names nobody who may start guests")
    report, chip = given.report, given.chip.root.name
    here = [one for one in policy.id_key_signers if one.chip in ("", chip)]
    for one in here:
        now = one.until is None or at.astimezone(UTC).date() <= one.until
        if report.id_key == one.id_key and report.guest_svn >= one.minimum_svn and now:
            return one.name
    names = ", ".join(
        f"{one.name} (SVN {one.minimum_svn} or newer{f', until {one.until}' if one.until else ''})"
        for one in here
    )
    raise EvidenceError(
        f"the guest was not started by anyone accepted on {chip}: {names or 'nobody'}\n"
        f"found     SVN {report.guest_svn}, signed by sha384:{report.id_key.hex()}"
    )
