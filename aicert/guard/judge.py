"""Judge what is about to be loaded: find its evidence, verify it, and raise if it does not pass.

This uses the functions behind `aicert verify-signature` and `aicert verify`. It adds the rule that
every file of a data set counts, and decides what happens if nobody has signed.
"""

import importlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aicert.errors import AicertError, EvidenceError
from aicert.files.bounded import StrPath, read_bounded
from aicert.formats.uncovered_names import FOLDERS, GIT
from aicert.frozen import dataclass
from aicert.guard.policy import Certificates, GuardPolicy, Signer
from aicert.model_signature import reader as bundles
from aicert.model_signature.signed_by import SIGNATURE
from aicert.signing import verify as signatures
from aicert.signing.sign import default_signature, located
from aicert.text import safe
from aicert.verifier import verify as api

CERTIFICATE = "certificate.json"
# Nothing is loaded from these folders, and the hub's client may write to the second at any time.
UNSEEN = (GIT, ".cache/huggingface/")


class RefusedError(AicertError):
    """The guard refuses to load from this path."""

    exit_code = 1


class UnsignedError(RefusedError):
    """There is no evidence of a kind that the policy accepts; its `unsigned` says what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is verified as a unit: a folder, or one file with its own signature.

    `is_rows`: it is a data set, in which every file affects what is loaded. `has_evidence`: there
    is a signature or certificate to judge. `read_from`: the path of its copy, if it is loaded from
    one.
    """

    root: str
    is_rows: bool
    has_evidence: bool
    read_from: str = ""


def find(path: StrPath, *, is_rows: bool) -> Subject:
    """Return the subject of an existing path: the nearest folder at or above it with evidence."""
    place = located(path)
    if place.is_dir():
        # In a snapshot of the hub's cache, links to files count as files; a link to a folder is
        # followed.
        place = Path(os.path.realpath(place))
        above = (place, *place.parents)
    else:
        if os.path.lexists(default_signature(place)):
            return Subject(root=str(place), is_rows=is_rows, has_evidence=True)
        above = tuple(place.parents)
    for folder in above:
        if any(os.path.lexists(folder / name) for name in (SIGNATURE, CERTIFICATE)):
            inside = f"{place.relative_to(folder).as_posix()}/"
            if inside.startswith(FOLDERS):
                raise RefusedError(
                    f"nothing is loaded from {safe(str(place))}: it may hold unsigned files"
                )
            return Subject(root=str(folder), is_rows=is_rows, has_evidence=True)
    return Subject(root=str(place), is_rows=is_rows, has_evidence=False)


def judge(subject: Subject, policy: GuardPolicy) -> None:
    """Return if the evidence passes; raise RefusedError if it fails or cannot be judged."""
    root = Path(subject.read_from or subject.root)
    signature, certificate = default_signature(root), root / CERTIFICATE
    judged = False
    try:
        if policy.signers and os.path.lexists(signature):
            _judge_signature(subject, root, signature, policy.signers)
            judged = True
        # A certificate is for a model, and claims nothing about rows beside it.
        if policy.certificates and not subject.is_rows and os.path.lexists(certificate):
            _judge_certificate(root, certificate, policy.certificates)
            judged = True
    except RefusedError:
        raise
    except AicertError as error:
        raise RefusedError(f"{safe(subject.root)}: {error.message}", hint=error.hint) from None
    if not judged:
        kind = "data set" if subject.is_rows else "model"
        raise UnsignedError(
            f"{safe(subject.root)}: the {kind} has no signature or certificate that"
            f" {safe(policy.path)} mentions",
            hint=f"aicert sign {subject.root} --key key.pem",
        )


def _judge_signature(
    subject: Subject, root: Path, place: Path, signers: tuple[Signer, ...]
) -> None:
    """Raise RefusedError unless one of the signers has signed the subject.

    For a wrong signer, the checks end before any file is read.
    """
    refusals: list[AicertError] = []
    for signer in signers:
        result = signatures.verify(
            root,
            at=datetime.now(UTC),
            key=signer.key or None,
            roots=signer.roots,
            keyless=_keyless(signer),
        )
        if result.verdict == "passed":
            if subject.is_rows and root.is_dir():
                _check_rows(root, place)
            return
        first = next(check for check in result.checks if check.verdict == "failed")
        refusals.append(
            RefusedError(f"{safe(subject.root)}: {first.id}: {first.detail}", hint=first.hint)
        )
    # Prefer the error for the right signer, which says more than one for a wrong signer.
    raise max(refusals, key=lambda error: "signer.trusted" not in error.message)


def _keyless(signer: Signer) -> signatures.Keyless | None:
    if not signer.identity:
        return None
    # The module needs an extra, so it is loaded by name, as on the command line.
    extra: Any = importlib.import_module("aicert.signing.sigstore_signer")
    root = signer.trusted_root or None
    return lambda data: extra.trust(data, signer.identity, signer.issuer, root)


def _check_rows(root: Path, place: Path) -> None:
    """Raise unless everything in a data set is signed, except the signature and what no reader
    opens.
    """
    bundle = bundles.parse(read_bounded(place, bundles.MAX_BYTES, "signature"))
    signed = bundles.read_manifest(bundle.payload).files
    for folder, folders, files in os.walk(root):
        inner = os.path.relpath(folder, root)
        prefix = "" if inner == "." else f"{inner}/"
        folders[:] = [name for name in folders if f"{prefix}{name}/" not in UNSEEN]
        for name in files:
            path = f"{prefix}{name}"
            if path not in signed and path != SIGNATURE:
                raise EvidenceError(
                    f"files.match: in a data set every file counts\nnot signed  {safe(path)}"
                )


def _judge_certificate(root: Path, place: Path, asked: Certificates) -> None:
    audits = None
    if asked.evidence:
        from aicert.verifier.evidence import audits_of, read_evidence

        audits = audits_of(read_evidence(asked.evidence)[0])
    result = api.check_files(
        place,
        root,
        policy=asked.policy,
        root=asked.root or None,
        lockfile=asked.lockfile or None,
        audits=audits,
    )
    api.require_model(result)
