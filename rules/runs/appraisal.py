"""How this checkout judges a certificate: with which policy and nonce.

A policy for simulated platforms accepts this checkout's CA and those that it trusts. Of machine
images it accepts the one that this checkout builds and those on its reviewed list
(rules.project.images).
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aicert.appraisal.ak_chain import SIMULATED_TIERS
from aicert.appraisal.appraise import appraise
from aicert.appraisal.checks.model import Model
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.errors import ConfigError
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest
from aicert.formats.lockfile import CODE_WORDS
from aicert.trust.built_in import BUILT_IN, built_in, with_root
from aicert.verifier import verify as api
from aicert.verifier.evidence import audits_of, read_evidence
from rules.host.progress import say
from rules.host.terminal import users_path
from rules.image.place import lock_of
from rules.machines.machine import DRIVERS, Driver
from rules.project import images, platform_cas, results
from rules.project.config import Run

Audits = Sequence[tuple[Certificate, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalRequest:
    """What a certificate has to meet: the policy, the nonce if one was chosen, and the audits that
    the policy may require (None if none were given).

    `own` means that this is the policy of this checkout's own machines without another root. What
    such a policy does not know is no evidence against anybody.
    """

    policy: Policy
    nonce: bytes | None
    own: bool = False
    audits: Audits | None = None

    def appraise(
        self, certificate: Certificate, model: Model | None, lockfile: Digest
    ) -> AttestationResult:
        """Appraise the certificate now, against the expected lockfile."""
        now = datetime.datetime.now(datetime.UTC)
        return appraise(
            certificate,
            model,
            self.policy,
            at=now,
            lockfile=lockfile,
            nonce=self.nonce,
            audits=self.audits,
        )


def evidence_at(folder: str) -> Audits | None:
    """Return the audits and evaluations in the folder named on the command line, if there is one,
    each with its results.
    """
    if not folder:
        return None
    given, refused = read_evidence(users_path(folder))
    for name, reason in refused:
        say(f"{name} does not count: {reason.splitlines()[0]}")
    return audits_of(given)


def own_request(root: Path, run: Run, nonce: bytes | None) -> AppraisalRequest:
    """Return the request for `run` under the policy of its own machine, which accepts this
    checkout's simulated platforms.
    """
    driver = run.machine.driver
    image = _own_image(root, driver, gpu=run.machine.gpu, tools=run.machine.tools)
    if driver.policy in SIMULATED_TIERS:
        # Somebody else's certificate is judged without a CA, so it is not replaced for lack of one.
        there = results.certificate_path(root, run.name).is_file()
        policy = _simulated(root, driver.policy, image, run.name, may_lack=there)
    else:
        policy = api.choose_policy(driver.policy, image=image)
    # This checkout's reviewed lockfile says whether code of an input may run. Other verifiers
    # decide that in their own policies.
    policy = replace(_with_list(root, policy, driver), allow=frozenset(CODE_WORDS))
    return AppraisalRequest(policy=policy, nonce=nonce, own=True)


def request_of(
    root: Path,
    policy: str,
    pem: str,
    nonce: str,
    run: str,
    *,
    gpu: bool = False,
    tools: bool = False,
) -> AppraisalRequest:
    """Return the request of a command line, with a built-in policy or a policy file, a root
    and a nonce.

    `run` is a run whose certificate would create this checkout's CA. `gpu` and
    `tools` select this checkout's image with GPU drivers, or with tools.
    """
    expected = api.expected_nonce(nonce or None)
    simulated = [d for d in DRIVERS.values() if d.policy == policy and policy in SIMULATED_TIERS]
    if not simulated:
        named = policy if policy in BUILT_IN else str(users_path(policy))
        ca = users_path(pem) if pem else None
        chosen = api.choose_policy(named, root=ca)
        return AppraisalRequest(
            policy=_with_own_image(root, chosen, gpu=gpu, tools=tools), nonce=expected
        )
    image = _own_image(root, simulated[0], gpu=gpu, tools=tools)
    if pem:
        chosen = api.choose_policy(policy, root=users_path(pem), image=image)
    else:
        brought = any(ca.driver == policy for ca in platform_cas.all_beside(root).values())
        chosen = _simulated(root, policy, image, run, may_lack=brought)
    chosen = _with_list(root, chosen, simulated[0])
    return AppraisalRequest(policy=chosen, nonce=expected, own=not pem)


def _simulated(root: Path, name: str, image: Path | None, run: str, *, may_lack: bool) -> Policy:
    """Return the built-in policy for simulated platforms with the CAs that this checkout
    accepts.
    """
    cas = platform_cas.accepted(root, name)
    if not cas and not may_lack:
        pem = root / platform_cas.OWN / f"{name}.pem"
        raise ConfigError(
            f"policy {name} uses this checkout's CA, which does not exist yet: {pem}; --root gives "
            "another",
            hint=f"./doit certify {run}",
        )
    policy = built_in(name)
    for ca in cas:
        policy = with_root(policy, ca.pem, str(ca.path))
    # `choose_policy` requires a root; without one nothing passes.
    return api.choose_policy(policy, image=image) if cas else policy


def _with_own_image(root: Path, policy: Policy, *, gpu: bool, tools: bool) -> Policy:
    """Return a policy for the simulated machines that this checkout's image boots in, accepting the
    images that the built-in one gets here; any other policy as it is.

    A policy that names images is not widened: who wrote it has chosen them.
    """
    driver = next(
        (d for d in DRIVERS.values() if SIMULATED_TIERS.get(d.policy) == policy.tier), None
    )
    if driver is None or policy.accepted:
        return policy
    image = _own_image(root, driver, gpu=gpu, tools=tools)
    return _with_list(root, api.choose_policy(policy, image=image), driver)


def _with_list(root: Path, policy: Policy, driver: Driver) -> Policy:
    return images.read(root).added_to(policy) if driver.in_image else policy


def _own_image(root: Path, driver: Driver, *, gpu: bool, tools: bool) -> Path | None:
    """This checkout's image, which its own measured machines boot."""
    lock = root / lock_of(gpu=gpu, tools=tools)
    return lock if driver.in_image and lock.is_file() else None
