"""A certificate that fails here only because nobody here knows who vouches for it.

Another checkout's CA, or a machine image that is not on this project's list, is no evidence against
a certificate for the lockfile and outputs here. So nothing committed is replaced for that reason
(except by `certify --again`), and there is no verdict until somebody here trusts the CA or the list
accepts the image. A revoked image is different: that run is trained again.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from aicert.appraisal.ak_chain import SIMULATED_TIERS
from aicert.appraisal.checks.model import Model
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.errors import AicertError
from aicert.formats import image_lock
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest, FileFact, of_bytes
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from aicert.trust.built_in import with_image, with_root
from rules.project import images, platform_cas
from rules.project.config import Run
from rules.runs.appraisal import AppraisalRequest


class Appraised(NamedTuple):
    """A certificate with what it was judged against, and the result. `model`: None if only the
    certificate was judged.
    """

    certificate: Certificate
    model: Model | None
    lockfile: Digest
    result: AttestationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Who is unknown here, in words, and how to change that."""

    text: str
    hint: str


def unknown(root: Path, run: Run, asked: AppraisalRequest, evidence: Appraised) -> Unknown | None:
    """Return who is unknown here, if that is the only reason for a failure. None if `evidence`
    passes, or fails for another reason.
    """
    if not asked.own or evidence.result.verdict == "passed":
        return None
    if asked.policy.name != run.machine.driver.policy:
        # Evidence of another platform is not what was asked for.
        return None
    policy, ca = asked.policy, None
    if _is_vouched_for_by_another(policy, evidence.result):
        ca = platform_cas.beside(root, run.name)
        if ca is None or ca.driver != policy.name or not ca.has_issued(evidence.certificate):
            return _of_a_ca_that_is_not_here(run, evidence)
        policy = with_root(policy, ca.pem, str(ca.path))
    policy, image = _accepting_its_image(policy, evidence.certificate)
    if policy is asked.policy:
        return None
    result = replace(asked, policy=policy).appraise(
        evidence.certificate, evidence.model, evidence.lockfile
    )
    is_known = result.verdict == "passed" or (
        evidence.model is None and result.certificate_consistent == "yes"
    )
    if not is_known:
        return None
    if ca is not None:
        return Unknown(
            text=f"its certificate is under the CA sha256:{ca.fingerprint} of another checkout, "
            "which is not trusted here",
            hint=f"./doit trust sha256:{ca.fingerprint}  # if its owner gave you this fingerprint",
        )
    return Unknown(
        text=f"its certificate is from the machine image {image}, which is not this checkout's, "
        f"and {images.LIST} does not accept it",
        hint=f"./doit certify {run.name} --again, or review the image and add it to that file",
    )


def _is_vouched_for_by_another(policy: Policy, result: AttestationResult) -> bool:
    return policy.name in SIMULATED_TIERS and result.check("platform.chain").verdict == "failed"


def _accepting_its_image(policy: Policy, certificate: Certificate) -> tuple[Policy, Digest | None]:
    """Return `policy`, also accepting the image that the certificate claims, unless that is known
    or revoked.
    """
    if certificate.image_lock is None:
        return policy, None
    digest = of_bytes(certificate.image_lock)
    if digest in policy.accepted or digest in policy.revoked:
        return policy, None
    try:
        return with_image(policy, image_lock.parse(certificate.image_lock)), digest
    except AicertError:
        return policy, None


def _of_a_ca_that_is_not_here(run: Run, evidence: Appraised) -> Unknown | None:
    """Compare the certificate's claims with the bytes here. The CA is missing here, so the signer
    cannot be checked.
    """
    try:
        statement = parse_statement(evidence.certificate.envelope.payload)
        exit_code = parse_report(statement.report).exit_code
    except AicertError:
        return None
    output = statement.outputs.get(run.outputs[0])
    here = {
        path: fact.sha256
        for path, fact in (evidence.model or {}).items()
        if isinstance(fact, FileFact)
    }
    same = of_bytes(evidence.certificate.lockfile) == evidence.lockfile and exit_code == "0"
    if not same or output is None or not here or dict(output.files) != here:
        return None
    return Unknown(
        text="its certificate is under another checkout's CA, which did not come with it",
        hint=f"./doit trust PEM  # its owner has it at .aicert/ca/{run.machine.driver.policy}.pem",
    )
