"""Appraise a confidential machine: platform.chip, platform.guest, platform.binding (ADR 10).

The processor's report is believed only once its signature led to a root of the policy. Then it says
whose guest it is and in which state; and that guest's paravisor says which attestation key is its
virtual TPM's. So the quote's key is in a guest that its host cannot look into. Imported only where
the policy's root stands for such machines.
"""

from datetime import UTC, datetime

from aicert.appraisal.ak_chain import CertifiedKey
from aicert.appraisal.checklist import Checklist
from aicert.appraisal.evidence import amd_vcek, azure_hcl, sev_snp
from aicert.appraisal.policy import Policy
from aicert.crypto.signatures import rsa_numbers
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.certificate import Certificate
from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReport:
    """A processor's report whose signature was verified, and what its text is."""

    report: sev_snp.Report
    runtime: bytes
    chip: amd_vcek.CertifiedChip


def appraise_chip(
    checklist: Checklist, certificate: Certificate, policy: Policy, key: CertifiedKey, at: datetime
) -> None:
    """The three checks, after platform.chain."""

    def chip(_: CertifiedKey) -> tuple[str, VerifiedReport]:
        verified = _verified_report(certificate, policy, at)
        root, tcb = verified.chip.root, amd_vcek.tcb_text(verified.chip.tcb)
        known = f"; {root.known}" if root.known else ""
        return f"signed by a processor of {root.name} ({tcb}){known}", verified

    def guest(given: VerifiedReport) -> tuple[str, None]:
        sev_snp.check_guest(given.report)
        _check_firmware(given.chip, policy)
        name = _started_by(given, policy, at)
        return f"started by {name}, without debugging or migration", None

    def binding(given: VerifiedReport) -> tuple[str, None]:
        if given.report.report_data != azure_hcl.report_data(given.runtime):
            raise EvidenceError(
                "the processor's report does not cover this runtime data\n"
                f"found     {given.report.report_data.hex()}\n"
                f"expected  {azure_hcl.report_data(given.runtime).hex()}"
            )
        _check_same_key(azure_hcl.attestation_key(given.runtime), key)
        return "the attestation key that signed is in that guest's TPM", None

    verified = checklist.step("platform.chip", chip, key, "platform.chain")
    checklist.step("platform.guest", guest, verified, "platform.chip")
    checklist.step("platform.binding", binding, verified, "platform.chip")


def _verified_report(certificate: Certificate, policy: Policy, at: datetime) -> VerifiedReport:
    given = certificate.evidence.platform
    if given is None:
        raise UndecidedError("the certificate carries no report from a confidential machine")
    if not policy.chips:
        raise UndecidedError(f"policy {policy.name} names no maker of processors")
    read = azure_hcl.parse(given.report)
    report = sev_snp.parse(read.hardware)
    if given.chip_certificate is None:
        raise UndecidedError(
            "the certificate lacks the processor's own certificate (VCEK): whoever ran "
            "the machine can add "
            "it (docs/spec/confidential.md)"
        )
    vlek = report.signing_key == sev_snp.VLEK
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
    sev_snp.verify(report, chip.key)
    return VerifiedReport(report=report, runtime=read.runtime, chip=chip)


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
    """Who signed what the guest was started with: whoever has another paravisor can say anything
    in its runtime data.
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


def _check_same_key(numbers: tuple[int, int], key: CertifiedKey) -> None:
    if rsa_numbers(key.key) != numbers:
        raise EvidenceError(
            "the attestation key does not belong to the machine that the processor reports"
        )
