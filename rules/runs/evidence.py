"""What `./doit verify --evidence DIR` shows beside a verdict, as `aicert verify` does."""

import datetime
from typing import NamedTuple

from aicert.appraisal.appraise import judge_audits
from aicert.cli.verify import section
from aicert.cli.verify.conditions import Conditions
from aicert.cli.verify.section import Section
from aicert.verifier.evidence import Given, audits_of, read_evidence
from rules.host.terminal import users_path
from rules.runs.appraisal import AppraisalRequest, Audits
from rules.runs.unknown_ca import Appraised


class Folder(NamedTuple):
    """What lies in a folder of evidence, not judged yet, and what is no evidence, with reasons."""

    given: list[Given]
    refused: list[tuple[str, str]]

    @property
    def audits(self) -> Audits:
        """The audits and evaluations that a policy may require."""
        return audits_of(self.given)


def read(folder: str) -> Folder | None:
    """Return what is in the folder that the command line names, if it names one."""
    return Folder(*read_evidence(users_path(folder))) if folder else None


def judged(folder: Folder, appraised: Appraised, request: AppraisalRequest, named: str) -> Section:
    """Judge what is in the folder, and return the section to print below the verdict.

    The policy is that of `request`; the command line calls it `named`.
    """
    at = datetime.datetime.now(datetime.UTC)
    conditions = Conditions(
        policy=request.policy,
        named=named,
        at=at,
        audits=judge_audits(folder.audits, request.policy, at),
        lockfile=appraised.lockfile,
    )
    return section.gather(
        appraised.certificate, appraised.result, folder.given, folder.refused, conditions
    )
