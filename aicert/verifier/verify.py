"""Read the files of a relying party and appraise them: behind `aicert verify` and `aicert.verify`.

Everything is read with a size limit. Built on `appraisal.appraise`, which is pure.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from aicert.appraisal.appraise import appraise
from aicert.appraisal.checks.model import GivenModel, Model
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import MODELS, AttestationResult
from aicert.errors import AicertError, ConfigError, EvidenceError, RejectedError
from aicert.files.bounded import StrPath, read_bounded, why
from aicert.formats import certificate as certificates
from aicert.formats import gpu
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Defect, Digest, FileFact, is_hex, of_bytes
from aicert.formats.lockfile import MAX_BYTES as MAX_LOCKFILE
from aicert.frozen import replace
from aicert.trust.built_in import BUILT_IN, built_in, require_roots, with_image, with_root
from aicert.trust.roots import MAX_PEM

if TYPE_CHECKING:
    from aicert.appraisal.evidence.audits import JudgedAudits

OnBytes = Callable[[int], None]
# The most certificates in a folder; each is only appraised if a lineage leads to it.
MAX_LINEAGE = 200
# The most bytes of all certificates together, whose statements are all read: a run's certificate
# has some hundred kilobytes.
MAX_LINEAGE_BYTES = 1 << 25


def read_certificate(path: StrPath) -> Certificate:
    """Parse a certificate file; nothing in it is authenticated yet."""
    return certificates.parse(read_certificate_file(path))


def read_certificate_file(path: StrPath) -> bytes:
    """Return the bytes of a certificate file; `-` is standard input."""
    if path == "-":
        return read_bounded("/dev/stdin", certificates.MAX_BYTES, "certificate")
    swapped = "name the certificate's file first, then MODEL_DIR"
    hint = swapped if os.path.isdir(path) else None
    return read_bounded(path, certificates.MAX_BYTES, "certificate", hint=hint)


def read_lineage(paths: Sequence[StrPath]) -> list[Certificate]:
    """Read the certificates at `paths`: each is a file, or a folder with `RUN/certificate.json` in
    it.
    """
    lineage: list[Certificate] = []
    room = MAX_LINEAGE_BYTES
    for path in paths:
        for file in _certificates_in(path):
            data = read_bounded(file, certificates.MAX_BYTES, "certificate")
            room -= len(data)
            if room < 0:
                raise EvidenceError(
                    f"the certificates of the lineage have more than {MAX_LINEAGE_BYTES} bytes"
                )
            lineage.append(certificates.parse(data))
    return lineage


def _certificates_in(path: StrPath) -> list[str]:
    if not os.path.isdir(path):
        return [os.fspath(path)]
    try:
        inside = [os.path.join(path, name, "certificate.json") for name in os.listdir(path)]
    except OSError as error:
        raise EvidenceError(f"cannot read {os.fspath(path)!a}: {why(error)}") from None
    # Whoever sent the folder may have put a FIFO there, from which a read would never return.
    files = sorted(file for file in inside if os.path.isfile(file))
    if not files or len(files) > MAX_LINEAGE:
        raise EvidenceError(
            f"{os.fspath(path)!a} holds {len(files)} certificates at RUN/certificate.json, "
            f"expected 1 to {MAX_LINEAGE}"
        )
    return files


def read_model(path: StrPath, on_bytes: OnBytes | None = None) -> dict[str, FileFact | Defect]:
    """Hash every file of a model directory; links, special files and the like are Defects."""
    from pathlib import Path

    from aicert.verifier import model_directory as model

    return model.read_model(Path(path), on_bytes)


def choose_policy(
    policy: str | Policy, *, root: StrPath | None = None, image: StrPath | None = None
) -> Policy:
    """Return a built-in policy by name or a policy file by path, with the caller's own root and
    image.
    """
    if isinstance(policy, Policy):
        chosen = policy
    elif policy in BUILT_IN:
        chosen = built_in(policy)
    elif os.path.exists(policy):
        from aicert.trust.policy_file import load_policy

        chosen = load_policy(policy)
    else:
        from difflib import get_close_matches

        near = get_close_matches(policy, BUILT_IN, n=1)
        raise ConfigError(
            f"no policy {policy!a}: neither a file nor one of {', '.join(BUILT_IN)}",
            hint=f"--policy {near[0]}" if near else None,
        )
    try:
        if root is not None:
            pem = read_bounded(root, MAX_PEM, "root")
            chosen = with_root(chosen, pem, os.fspath(root))
        if image is not None:
            from aicert.formats import image_lock

            data = read_bounded(image, image_lock.MAX_BYTES, "image lock")
            chosen = with_image(chosen, image_lock.parse(data))
    except AicertError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    return require_roots(chosen)


def with_collateral(certificate: Certificate, path: StrPath) -> Certificate:
    """Return the certificate with the caller's collateral, which replaces its own."""
    data = read_bounded(path, certificates.MAX_COLLATERAL, "collateral")
    platform = certificate.evidence.platform
    if platform is None:
        raise ConfigError("--collateral: the certificate carries no report of a processor")
    evidence = replace(certificate.evidence, platform=replace(platform, given_collateral=data))
    return replace(certificate, evidence=evidence)


def with_gpu_collateral(certificate: Certificate, path: StrPath) -> Certificate:
    """Return the certificate with the caller's collateral for its GPUs, which replaces its own."""
    data = read_bounded(path, gpu.MAX_COLLATERAL, "collateral")
    gpus = certificate.evidence.gpus
    if gpus is None:
        raise ConfigError("--gpu-collateral: the certificate carries no reports of GPUs")
    evidence = replace(certificate.evidence, gpus=replace(gpus, given_collateral=data))
    return replace(certificate, evidence=evidence)


def expected_lockfile(text: StrPath | Digest | None) -> Digest | None:
    """Return the digest of the lockfile that the caller expects, given as a path or
    `sha256:HEX`.
    """
    if text is None or isinstance(text, Digest):
        return text
    name = os.fspath(text)
    if name.startswith("sha256:"):
        if not is_hex(name.removeprefix("sha256:")):
            raise ConfigError(f"not a lockfile digest: {name[:80]!a}")
        return Digest.parse(name)
    try:
        return of_bytes(read_bounded(name, MAX_LOCKFILE, "lockfile"))
    except EvidenceError as error:
        raise ConfigError(error.message, hint="--lockfile lockfiles/RUN.lock.toml") from None


def expected_nonce(text: str | bytes | None) -> bytes | None:
    """Return the caller's challenge, given as 32 bytes or 64 hexadecimal digits."""
    if text is None:
        return None
    if isinstance(text, bytes):
        nonce = text
    elif is_hex(text.lower()):
        nonce = bytes.fromhex(text)
    else:
        raise ConfigError("a nonce is 64 hexadecimal digits", hint="openssl rand -hex 32")
    if len(nonce) != 32:
        raise ConfigError("a nonce has 32 bytes", hint="openssl rand -hex 32")
    return nonce


def time_of_appraisal(at: datetime | str | None) -> datetime:
    """Return the time at which validity is judged: the caller's, or now."""
    if at is None:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(at) if isinstance(at, str) else at
        # In the years 1 and 9999 there are times in one zone that do not exist in another.
        time = time if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        time = None
    if time is None or time.tzinfo is None:
        raise ConfigError(
            f"not a time with a zone: {str(at)[:40]!a}", hint="--at 2026-08-21T09:14:07Z"
        )
    return time


def check_files(
    certificate: StrPath | Certificate,
    model: StrPath | Model | None,
    *,
    policy: str | Policy = "default",
    root: StrPath | None = None,
    lockfile: StrPath | Digest | None = None,
    image: StrPath | None = None,
    nonce: str | bytes | None = None,
    at: datetime | str | None = None,
    lineage: Sequence[StrPath] | None = None,
    collateral: StrPath | None = None,
    gpu_collateral: StrPath | None = None,
    audits: "Sequence[tuple[Certificate, bytes]] | JudgedAudits | None" = None,
    on_bytes: OnBytes | None = None,
) -> AttestationResult:
    """Read the files and appraise them; any verdict is returned.

    The arguments are those of `aicert.verify`, with audits as `evidence.audits_of` returns them, or
    judged under the same policy at the same time (`appraise.judge_audits`). A
    caller that shows more of the certificate passes the one that it has read: the path may hold
    another one the next time. So does a caller that has read the model.
    """
    chosen = choose_policy(policy, root=root, image=image)
    wanted, challenge = expected_lockfile(lockfile), expected_nonce(nonce)
    time = time_of_appraisal(at)
    if isinstance(model, Mapping) or model is None:
        files: GivenModel | None = model
    elif os.fspath(model):
        files = partial(read_model, model, on_bytes)
    else:
        # For pathlib, an empty path is the current directory, which nobody named: a variable was
        # not set.
        raise ConfigError("MODEL_DIR is empty", hint="name the model's directory")
    parsed = certificate if isinstance(certificate, Certificate) else read_certificate(certificate)
    if collateral is not None:
        parsed = with_collateral(parsed, collateral)
    if gpu_collateral is not None:
        parsed = with_gpu_collateral(parsed, gpu_collateral)
    ancestors = None if lineage is None else read_lineage(lineage)
    return appraise(
        parsed,
        files,
        chosen,
        at=time,
        lockfile=wanted,
        nonce=challenge,
        ancestors=ancestors,
        audits=audits,
    )


def require_passed(result: AttestationResult) -> AttestationResult:
    """Return `result` if it passed; otherwise raise RejectedError, or NoVerdictError if it is
    undecided.
    """
    if result.verdict == "passed":
        return result
    if result.verdict == "failed":
        first = result.failed[0]
        raise RejectedError(f"{first.id}: {first.detail}", result, hint=first.hint)
    reasons = "; ".join(f"{check.id}: {check.detail}" for check in result.undecided[:3])
    raise NoVerdictError(f"no verdict: {reasons}", result)


def require_model(result: AttestationResult) -> AttestationResult:
    """Return `result` if it passed and is for a model; otherwise raise, as `require_passed` does.

    Results of an audit or an evaluation are not a model, however well certified.
    """
    require_passed(result)
    if result.kind not in MODELS:
        raise RejectedError(
            f"the certificate is not for a model: its kind is {result.kind}", result
        )
    return result


class NoVerdictError(EvidenceError):
    """The evidence neither passed nor failed: a check could not be made. `result` holds
    all checks.
    """

    def __init__(self, message: str, result: AttestationResult) -> None:
        super().__init__(message)
        self.result = result
