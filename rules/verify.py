"""Verify the certificates of this checkout with this checkout's code.

It informs the owners of the repository, nobody else: a relying party uses `aicert verify`. It reads
neither doit's database nor the digest cache; every byte of the model is read again.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path

from aicert import cli, render
from aicert.appraisal import appraise
from aicert.certificate import MAX_BYTES, Certificate, parse
from aicert.digest import Digest, FileFact
from aicert.errors import ConfigError, EvidenceError, LockError
from aicert.policy import Policy, built_in, with_root
from aicert.result import AttestationResult
from aicert.statement import parse as parse_statement
from rules import lock, progress
from rules.config import Run

CERTIFICATES = Path("certificates")
OUTPUTS = Path("outputs")


def certificate_path(root: Path, run: str) -> Path:
    """Where the certificate of a run stands."""
    return root / CERTIFICATES / run / "certificate.json"


def output_path(root: Path, run: Run) -> Path:
    """Where the run's output stands."""
    return root / OUTPUTS / run.name / run.outputs[0]


def read_certificate(root: Path, run: str) -> bytes:
    """The bytes of a run's certificate; EvidenceError where there is none."""
    path = certificate_path(root, run)
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise EvidenceError(f"run {run} has no certificate", hint=f"./doit certify {run}") from None
    except OSError as error:
        raise EvidenceError(f"cannot read {path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a certificate: the policy to meet and, if the asker chose one, the nonce."""

    policy: Policy
    nonce: bytes | None

    def appraise(
        self, certificate: Certificate, model: Mapping[str, FileFact] | None, lockfile: Digest
    ) -> AttestationResult:
        """Appraise now, against the lockfile that is expected."""
        now = datetime.datetime.now(datetime.UTC)
        return appraise(
            certificate, model, self.policy, at=now, lockfile=lockfile, nonce=self.nonce
        )


def own_question(root: Path, run: Run, nonce: bytes | None) -> Question:
    """Under the policy of the run's own machine: it accepts what this checkout simulates."""
    driver = run.machine.driver
    policy = rooted(built_in(driver), root / ".aicert" / "ca" / f"{driver}.pem")
    return Question(policy=policy, nonce=nonce)


def question(root: Path, policy: str, pem: str, nonce: str) -> Question:
    """What a command line asks: a built-in policy or a policy file, an own root, a nonce."""
    return Question(
        policy=_policy(root, policy, pem), nonce=cli.nonce_argument(nonce) if nonce else None
    )


def _policy(root: Path, policy: str, pem: str) -> Policy:
    chosen = cli.policy_argument(policy if policy in BUILT_IN else str(users_path(policy)))
    if pem:
        return rooted(chosen, users_path(pem))
    if policy in DRIVERS:
        return rooted(chosen, root / ".aicert" / "ca" / f"{policy}.pem")
    return chosen


def rooted(policy: Policy, pem: Path) -> Policy:
    """A simulated policy with the root in `pem`. Raises ConfigError where there is none."""
    try:
        return with_root(policy, pem.read_bytes(), str(pem))
    except FileNotFoundError:
        raise ConfigError(
            f"policy {policy.name} needs this checkout's CA, and {pem.name} does not exist",
            hint="./doit certify makes it; or give --root PEM",
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {pem}: {error.strerror}") from None


def runner_of(certificate: Certificate) -> Digest | None:
    """The runner's code as a certificate that passed names it."""
    return parse_statement(certificate.envelope.payload).builder.get("runner")


