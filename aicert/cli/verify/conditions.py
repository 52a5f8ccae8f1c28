"""Under what a folder of evidence is judged: as the certificate that it is about, at one time."""

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.appraisal.appraise import judge_audits
from aicert.appraisal.policy import Policy
from aicert.files.bounded import StrPath
from aicert.formats.digest import Digest
from aicert.frozen import dataclass
from aicert.verifier import verify as api
from aicert.verifier.evidence import Given, audits_of

if TYPE_CHECKING:
    from aicert.appraisal.evidence.audits import JudgedAudits


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The policy, with the caller's root and image, and by what words the caller named it; the
    time; the audits of the folder, each of whose certificates gets one verdict; and the lockfile
    and the lineage that the caller expects.
    """

    policy: Policy
    named: str
    at: datetime
    audits: "JudgedAudits"
    lockfile: StrPath | Digest | None = None
    lineage: Sequence[StrPath] | None = None


def asked_by(options: argparse.Namespace, given: Sequence[Given]) -> Asked:
    """Return what the options of `aicert verify` ask of a folder of evidence."""
    policy = api.choose_policy(options.policy, root=options.root, image=options.image_lock)
    at = api.time_of_appraisal(options.at)
    return Asked(
        policy=policy,
        named=options.policy,
        at=at,
        audits=judge_audits(audits_of(given), policy, at),
        lockfile=options.lockfile,
        lineage=options.lineage,
    )
