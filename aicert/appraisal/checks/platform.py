"""Appraise the platform: whose attestation key it is, and how well it is protected (platform.*).

Which further checks apply follows from the root to which the key chains: evidence from a processor,
or from GPUs, is asked for, and its reader imported, only if that root stands for such machines.
GPUs come last, since the verified statement says which of them the machine asked.
"""

from aicert.appraisal.ak_chain import CertifiedKey, verify_chain
from aicert.appraisal.checklist import Checklist, NotApplicableError
from aicert.appraisal.checks.context import Context
from aicert.appraisal.checks.run import VerifiedRun
from aicert.appraisal.result import (
    CHIP_CHECKS,
    GPU_CHECK,
    below_vtpm,
    has_gpus,
    is_confidential,
    tier_rank,
)
from aicert.crypto.x509 import stamp
from aicert.errors import EvidenceError
from aicert.formats.certificate import Certificate


def appraise_platform(checklist: Checklist, context: Context) -> CertifiedKey | None:
    """Decide platform.chain and the checks of the processor; return the key that the root vouches
    for.

    The chain is judged at `context.then`: what was signed while it was valid stays good.
    """

    def chain(given: Certificate) -> tuple[str, CertifiedKey]:
        key = verify_chain(given.evidence.ak_chain, context.policy.roots, context.then)
        detail = f"AK certificate chains to pinned root {key.root.name}"
        if context.then != context.at:
            detail += f", valid at {stamp(context.then)}, a trusted time"
        if key.root.instance:
            from aicert.appraisal.evidence.google_instance import instance_text

            detail += f", {instance_text(key.certificate)}"
        return detail, key

    key = checklist.step("platform.chain", chain, context.certificate)
    if key is not None and is_confidential(key.root.tier):
        from aicert.appraisal.evidence.confidential import appraise_chip

        appraise_chip(checklist, context.certificate, context.policy, key, context.at)
    else:
        for check in CHIP_CHECKS:
            checklist.step(check, _not_asked, key, "platform.chain")
    return key


def appraise_tier(checklist: Checklist, context: Context, key: CertifiedKey | None) -> None:
    """Decide platform.gpu and platform.tier; called after statement.*."""
    policy = context.policy

    def gpus(given: VerifiedRun) -> tuple[str, None]:
        from aicert.appraisal.evidence import nvidia

        asked = given.statement.builder
        return nvidia.judge(context.certificate.evidence, policy, asked, context.at), None

    def tier(key: CertifiedKey) -> tuple[str, None]:
        tier = key.root.tier
        if tier_rank(tier) < tier_rank(policy.tier):
            forged = "; its operator could have forged this" if below_vtpm(tier) else ""
            raise EvidenceError(
                f"tier {tier}, but policy {policy.name} requires {policy.tier} or better{forged}"
            )
        return f"{tier}, and policy {policy.name} requires {policy.tier}", None

    if key is not None and has_gpus(key.root.tier):
        checklist.step(GPU_CHECK, gpus, context.run, *CHIP_CHECKS, "statement.form")
    else:
        checklist.step(GPU_CHECK, _not_asked, key, "platform.chain")
    checklist.step("platform.tier", tier, key, *CHIP_CHECKS, GPU_CHECK)


def _not_asked(key: CertifiedKey) -> tuple[str, None]:
    raise NotApplicableError(f"root {key.root.name} (tier {key.root.tier}) does not require it")
