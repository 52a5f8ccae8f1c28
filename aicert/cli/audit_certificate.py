"""Whether results are those of a certified audit, by the verifier's own policy."""

from typing import TYPE_CHECKING

from aicert.appraisal.result import AttestationResult
from aicert.errors import EvidenceError, RejectedError, UndecidedError
from aicert.formats.certificate import Certificate
from aicert.formats.digest import FileFact, of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import parse as parse_lockfile
from aicert.verifier.verify import check_files

if TYPE_CHECKING:
    from aicert.audits.results import Results

RESULTS = "results.json"


def judge(
    certificate: Certificate,
    data: bytes,
    *,
    policy: str,
    root: str | None,
    at: str | None,
    image: str | None = None,
) -> AttestationResult:
    """The verdict on a certificate that names exactly these results. AicertError where it does not,
    or where the verdict is not that it passes.
    """
    result = check_files(certificate, None, policy=policy, root=root, image=image, at=at)
    hint = f"aicert verify certificate.json --policy {policy}"
    if result.failed:
        first = result.failed[0]
        raise RejectedError(
            f"the audit's certificate fails: {first.id}: {first.detail}", result, hint=hint
        )
    if result.certificate_consistent != "yes":
        first = result.undecided[0]
        raise UndecidedError(
            f"the audit's certificate has no verdict: {first.id}: {first.detail}", hint=hint
        )
    if result.kind != "audit":
        raise RejectedError(f"the certificate is of no audit, but of kind {result.kind}", result)
    digest = dir_digest({RESULTS: FileFact(len(data), of_bytes(data).hex)})
    if list((result.subject or {}).values()) != [str(digest)]:
        raise RejectedError("these are not the results that the certificate names", result)
    return result


def check_joined(results: "Results", certificate: Certificate, verdict: AttestationResult) -> None:
    """That results which a certificate names speak of its rows and lists. RejectedError if not."""
    from aicert.audits import joining

    locked = parse_lockfile(certificate.lockfile)
    try:
        joining.check_rows(results, () if verdict.facts is None else verdict.facts.records)
        joining.check_lists(results.checks, {item.name: item.digest for item in locked.inputs})
    except EvidenceError as error:
        raise RejectedError(error.message, verdict) from None
