"""Appraise what time authorities of the policy say: time.token and time.not-before.

Their reader is imported only where the policy names an authority, or where the caller's challenge
may have been answered by way of a time stamp.
"""

from datetime import datetime

from aicert.appraisal.checklist import Checklist, NotApplicableError
from aicert.appraisal.policy import Policy
from aicert.formats.certificate import NOT_BEFORE, RFC3161, Certificate


def appraise_token(
    checklist: Checklist, certificate: Certificate, policy: Policy, at: datetime
) -> tuple[datetime, str] | None:
    """time.token: when the certificate existed, and the authority that says so."""

    def token(given: Certificate) -> tuple[str, tuple[datetime, str]]:
        _require_authority(policy)
        from aicert.appraisal.evidence.trusted_time import existed

        return existed(given, policy, at)

    return checklist.step("time.token", token, certificate)


def appraise_not_before(
    checklist: Checklist, certificate: Certificate, policy: Policy, at: datetime
) -> tuple[datetime, str] | None:
    """time.not-before: before when nobody knew what the machine answered, and who says so."""

    def not_before(given: Certificate) -> tuple[str, tuple[datetime, str]]:
        _require_authority(policy)
        from aicert.appraisal.evidence.trusted_time import began

        return began(given, policy, at)

    needs = ("runkey.certified",) if policy.time_authorities else ()
    return checklist.step("time.not-before", not_before, certificate, *needs)


def _require_authority(policy: Policy) -> None:
    if not policy.time_authorities and "time" not in policy.require:
        raise NotApplicableError(f"policy {policy.name} names no time authority")


def answers(certificate: Certificate, challenge: bytes) -> bool:
    """Whether the nonce is the caller's challenge, or was made of it and of an earlier token."""
    if challenge == certificate.evidence.nonce:
        return True
    from aicert.appraisal.evidence.trusted_time import answers_later

    return answers_later(certificate, challenge)


def unread(certificate: Certificate, policy: Policy) -> int:
    """How many timestamps no check looks at."""
    known = (RFC3161, NOT_BEFORE) if policy.time_authorities else ()
    return sum(not one.startswith(known) for one in certificate.evidence.timestamps)
