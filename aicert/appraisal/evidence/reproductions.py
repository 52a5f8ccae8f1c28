"""Judge what a second certificate with equal bytes shows about a first (docs/spec/compute.md,
"Epochs").

Two runs of one lockfile gave the same outputs. If one party could have made both certificates, that
shows only that the training is deterministic. It shows that the inputs give these outputs with that
config, whatever the first machine did, only if another machine ran it: with another attestation
key; on platforms whose owner could forge evidence, under another owner; and under another accepted
image.

Both certificates must pass under one policy, except for the model on disk; before that, nothing in
either counts. Left out: who rented a cloud's machine, which no certificate says.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from aicert.appraisal.ak_chain import CertifiedKey, Root, verify_chain
from aicert.appraisal.result import AttestationResult, below_vtpm
from aicert.crypto.x509 import load
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import image_lock, lockfile
from aicert.formats.certificate import Certificate, core_digest
from aicert.formats.digest import Digest
from aicert.frozen import dataclass

# The register that measures the image's kernel and command line, and through them the whole image.
_IMAGE_PCR = 11
Grade = Literal["re-executed", "repeated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two certificates, and the verdict on it."""

    certificate: Certificate
    verdict: AttestationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A second run of the same lockfile that gave the same bytes.

    `grade`: `re-executed`, or `repeated` if it shows only that the training is deterministic;
    `lacks` then says why. `roots`: the platform roots of the first and of the second run.
    `may_be_one_operator`: False only if each root is its operator's own and the roots differ.
    `image`: the second run's, if one was measured. `certificate`: the digest of the second
    certificate.
    """

    run: str
    grade: Grade
    lacks: tuple[str, ...]
    tier: str
    roots: tuple[str, str]
    may_be_one_operator: bool
    image: str | None
    certificate: Digest


def is_about(first: Side, again: Certificate, outputs: Iterable[Digest]) -> bool:
    """Return whether `again` claims to be for the first one's lockfile or outputs, and is not the
    first.
    """
    ours = {*(first.verdict.subject or {}).values()}
    same = again.lockfile == first.certificate.lockfile or ours & {*map(str, outputs)}
    return bool(same) and core_digest(again) != core_digest(first.certificate)


def compared(first: Side, again: Side, roots: Sequence[Root]) -> Reproduction:
    """Return what `again` shows about `first`.

    `roots`: those of the policy under which both were judged. Raises EvidenceError if it is not a
    second run with equal bytes, UndecidedError if one of the two does not pass.
    """
    _check_passes(first.verdict, "the certificate")
    _check_passes(again.verdict, "it")
    one, two = first.certificate, again.certificate
    # A machine makes a new key for each run.
    same_key = one.evidence.run_key == two.evidence.run_key
    if same_key or one.envelope.payload == two.envelope.payload:
        raise EvidenceError("it is of the same run, and no second one")
    if (first.verdict.lockfile, first.verdict.run) != (again.verdict.lockfile, again.verdict.run):
        raise EvidenceError("it is of another lockfile")
    if first.verdict.subject != again.verdict.subject or not first.verdict.subject:
        raise EvidenceError("its outputs are not the same bytes")
    keys = [_key(side.certificate, roots) for side in (first, again)]
    owned = all(below_vtpm(key.root.tier) for key in keys)
    lacks = [*_one_machine(keys), *_one_image(first, again), *_own_code(first.certificate)]
    return Reproduction(
        run=again.verdict.run or "",
        grade="repeated" if lacks else "re-executed",
        lacks=tuple(lacks),
        tier=again.verdict.tier or "",
        roots=(keys[0].root.name, keys[1].root.name),
        may_be_one_operator=not owned or keys[0].root.der == keys[1].root.der,
        image=_image(again),
        certificate=core_digest(again.certificate),
    )


def _check_passes(verdict: AttestationResult, what: str) -> None:
    if verdict.certificate_consistent == "yes":
        return
    # That no model was given is undecided too, but it is no reason.
    others = [one for one in verdict.undecided if one.id != "subject.files"]
    (check, *_) = (*verdict.failed, *others, *verdict.undecided)
    raise UndecidedError(f"{what} does not pass: {check.id}: {check.detail.partition(chr(10))[0]}")


def _key(certificate: Certificate, roots: Sequence[Root]) -> CertifiedKey:
    """Return the attestation key and the root that vouches for it; `platform.chain` was ok.

    At the time when the last certificate of the chain began to be valid, all of them were.
    """
    chain = certificate.evidence.ak_chain
    began: list[datetime] = [load(der, "ak_cert").not_valid_before_utc for der in chain]
    return verify_chain(chain, roots, max(began))


def _one_machine(keys: Sequence[CertifiedKey]) -> list[str]:
    one, two = keys
    if one.key == two.key:
        return ["the same machine ran both: they have one attestation key"]
    if one.root.der == two.root.der and below_vtpm(one.root.tier):
        return [f"one owner could have made both: root {one.root.name} stands for its operator"]
    return []


def _one_image(first: Side, again: Side) -> list[str]:
    if None in (_image(first), _image(again)):
        return ["not both machines measured the image that they ran"]
    one, two = (side.certificate.evidence.pcrs[_IMAGE_PCR] for side in (first, again))
    return ["both ran under one image"] if one == two else []


def _image(side: Side) -> str | None:
    """Return the accepted image's name; None if nothing was measured at boot."""
    lock = side.certificate.image_lock
    if lock is None or side.verdict.check("boot.pcr11").verdict != "ok":
        return None
    return image_lock.parse(lock).name


def _own_code(certificate: Certificate) -> list[str]:
    """Return a reason if code of inputs may have run: it may write bytes that it holds, on every
    machine.
    """
    code = lockfile.input_code(lockfile.parse(certificate.lockfile))
    return ["code of its inputs may have run in both trainers"] if code else []
