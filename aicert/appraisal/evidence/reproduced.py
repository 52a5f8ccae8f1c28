"""What a second certificate of equal bytes shows of a first one (docs/spec/compute.md, "Epochs").

Two runs of one lockfile gave the same outputs. If one party could have made both certificates, that
shows a training that is deterministic, and no more. It shows that the inputs give these outputs, by
that config, whatever the first machine did, only where another machine ran it: another attestation
key; of platforms whose owner could forge, another owner; under another accepted image.

Promises: both certificates pass under one policy, but for the model on disk; nothing of either
counts before that. Left out: who rented a cloud's machine, which no certificate says.
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

# The register that holds what the image's kernel and command line are, and by them all of it.
_IMAGE_PCR = 11
Grade = Literal["re-executed", "repeated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A certificate, and the verdict on it."""

    certificate: Certificate
    verdict: AttestationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A second run of the same lockfile that gave the same bytes.

    `grade`: `re-executed`, or `repeated` where it shows that the training is deterministic and no
    more; `lacks` then says why. `roots`: the platforms' of both; `may_be_one_operator`: unless each
    root is its operator's own, and they differ; `image`: of the second, if one was measured.
    `certificate`: its digest.
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
    """Whether it says that it is of the first one's lockfile, or of its outputs; and is not it."""
    ours = {*(first.verdict.subject or {}).values()}
    same = again.lockfile == first.certificate.lockfile or ours & {*map(str, outputs)}
    return bool(same) and core_digest(again) != core_digest(first.certificate)


def compared(first: Side, again: Side, roots: Sequence[Root]) -> Reproduction:
    """What `again` shows of `first`. EvidenceError where it is no second run with equal bytes, and
    UndecidedError where one of both does not pass. `roots` are those of the policy of both.
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
    # That no model was given is open, too, and is no reason.
    others = [one for one in verdict.undecided if one.id != "subject.files"]
    (check, *_) = (*verdict.failed, *others, *verdict.undecided)
    raise UndecidedError(f"{what} does not pass: {check.id}: {check.detail.partition(chr(10))[0]}")


def _key(certificate: Certificate, roots: Sequence[Root]) -> CertifiedKey:
    """The attestation key, and the root that vouches for it: `platform.chain` is ok.

    At the time at which the last of the chain began to be valid, all of it was.
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
    """The accepted image's name; None where nothing was measured at boot."""
    lock = side.certificate.image_lock
    if lock is None or side.verdict.check("boot.pcr11").verdict != "ok":
        return None
    return image_lock.parse(lock).name


def _own_code(certificate: Certificate) -> list[str]:
    """Code of inputs may give the bytes that it holds, on every machine."""
    code = lockfile.input_code(lockfile.parse(certificate.lockfile))
    return ["code of its inputs may have run in both trainers"] if code else []
