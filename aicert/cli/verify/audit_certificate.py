"""Check that results are those of a certified audit or evaluation, under the verifier's policy."""

from aicert.appraisal.appraise import for_audits
from aicert.appraisal.checks.kinds import Kind
from aicert.appraisal.evidence.audits import check_verdict
from aicert.appraisal.result import AttestationResult
from aicert.formats.certificate import Certificate
from aicert.verifier.hints import hint_of
from aicert.verifier.verify import check_files, choose_policy


def judge(
    certificate: Certificate,
    data: bytes,
    *,
    policy: str,
    root: str | None,
    at: str | None,
) -> AttestationResult:
    """Return the verdict on an audit's certificate that names exactly these results.

    Raises AicertError if it does not name them, or does not pass.
    """
    chosen = for_audits(choose_policy(policy, root=root))
    result = check_files(certificate, None, policy=chosen, at=at)
    check_named(result, data, policy)
    return result


def check_named(result: AttestationResult, data: bytes, policy: str, kind: Kind = "audit") -> None:
    """Raise AicertError unless the certificate with this verdict passes and names these results."""
    hint = f"aicert verify certificate.json --policy {policy}"
    if result.failed:
        # What accepts it, if this policy does not accept its platform.
        hint = hint_of(result.failed[0], result.policy) or hint
    check_verdict(result, data, kind=kind, hint=hint)
