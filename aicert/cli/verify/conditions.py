"""The conditions under which a folder of evidence is judged.

They are those of the certificate that the evidence is about, and everything in the folder is judged
as of the same time.
"""

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
class Conditions:
    """What the caller's options say about judging evidence.

    `policy`: with the caller's root and image. `named`: the words by which the caller named it.
    `at`: the time of appraisal. `audits`: those in the folder; each certificate is judged once.
    `lockfile`, `lineage`: what the caller expects, None if nothing.
    """

    policy: Policy
    named: str
    at: datetime
    audits: "JudgedAudits"
    lockfile: StrPath | Digest | None = None
    lineage: Sequence[StrPath] | None = None


def conditions_of(options: argparse.Namespace, given: Sequence[Given]) -> Conditions:
    """Return the conditions that the options of `aicert verify` state for a folder of evidence."""
    policy = api.choose_policy(options.policy, root=options.root, image=options.image_lock)
    at = api.time_of_appraisal(options.at)
    return Conditions(
        policy=policy,
        named=options.policy,
        at=at,
        audits=judge_audits(audits_of(given), policy, at),
        lockfile=options.lockfile,
        lineage=options.lineage,
    )
