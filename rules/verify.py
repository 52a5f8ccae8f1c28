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


def policy_for(root: Path, driver: str) -> Policy:
    """The policy of the machine itself: it accepts the platform that this checkout simulates."""
    return rooted(built_in(driver), root / ".aicert" / "ca" / f"{driver}.pem")


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


def now() -> datetime.datetime:
    """The time that validity is judged at."""
    return datetime.datetime.now(datetime.UTC)
