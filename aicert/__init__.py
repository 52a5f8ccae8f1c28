"""aicert: check that a model was made from what its lockfile names, inside a measured machine.

    import aicert

    result = aicert.verify("certificate.json", "model/", lockfile="sha256:…")

`verify` returns only when the evidence passed. `appraisal.appraise` is the pure function behind it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aicert.errors import (
    AicertError,
    ConfigError,
    EvidenceError,
    LockError,
    RejectedError,
    ToolError,
)

if TYPE_CHECKING:
    from datetime import datetime

    from aicert.appraisal.policy import Policy
    from aicert.appraisal.result import AttestationResult
    from aicert.files.bounded import StrPath
    from aicert.formats.digest import Digest

__all__ = [
    "AicertError",
    "ConfigError",
    "EvidenceError",
    "LockError",
    "RejectedError",
    "ToolError",
    "verify",
]


def verify(
    certificate: "StrPath",
    model: "StrPath | None" = None,
    *,
    policy: "str | Policy" = "default",
    root: "StrPath | None" = None,
    lockfile: "StrPath | Digest | None" = None,
    image_lock: "StrPath | None" = None,
    nonce: str | bytes | None = None,
    at: "datetime | str | None" = None,
    lineage: "Sequence[StrPath] | None" = None,
    collateral: "StrPath | None" = None,
    gpu_collateral: "StrPath | None" = None,
    evidence: "StrPath | None" = None,
) -> "AttestationResult":
    """Verify a certificate and the model that it is for.

    Args:
        certificate: path of the certificate file.
        model: directory of the model's files. Without it there is never a pass.
        policy: `default`, `confidential`, `confidential-gpu`, `google`, `local`, `qemu`, a policy
            file's path, or a `Policy`.
        root: PEM file with the root of a simulated platform that you trust.
        lockfile: the lockfile that you expect: a path, `sha256:HEX` or a Digest.
        image_lock: path of the lock of a machine image that you accept.
        nonce: your challenge, 32 bytes or 64 hexadecimal digits.
        at: the time at which X.509 validity is judged, with a zone; now, if None.
        lineage: certificates of the runs that this run builds on: files, or folders of
            RUN/certificate.json.
        collateral: JSON file with Intel's collateral for a TDX machine's processor
            (docs/spec/tdx.md).
        gpu_collateral: JSON file with NVIDIA's collateral for the GPUs (docs/spec/gpu.md).
        evidence: folder of audits and evaluations (RUN/certificate.json, results.json), for a
            policy that demands some.

    Returns:
        The AttestationResult, with `verdict == "passed"`.

    Raises:
        RejectedError: a check failed; `.result` has every check (`exit_code` 1).
        EvidenceError: missing or malformed evidence; or, as `verifier.verify.NoVerdictError` with
            `.result`, checks that could not be made (`exit_code` 2).
        ConfigError: the policy or an argument is wrong (`exit_code` 3).
    """
    from aicert.verifier import verify as api

    audits = None
    if evidence is not None:
        from aicert.verifier.evidence import audits_of, read_evidence

        audits = audits_of(read_evidence(evidence)[0])
    result = api.check_files(
        certificate,
        model,
        policy=policy,
        root=root,
        lockfile=lockfile,
        image=image_lock,
        nonce=nonce,
        at=at,
        lineage=lineage,
        collateral=collateral,
        gpu_collateral=gpu_collateral,
        audits=audits,
    )
    return api.require_passed(result)
