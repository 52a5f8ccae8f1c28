"""Verify the certificates of this checkout with this checkout's code.

It informs the owners of the repository, nobody else: a relying party uses `aicert verify`. It reads
neither doit's database nor the digest cache; every byte of the model is read again.
"""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

from aicert.appraisal.ak_chain import SIMULATED_TIERS
from aicert.appraisal.appraise import appraise
from aicert.appraisal.checks.model import Model
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.cli import main, table
from aicert.errors import ConfigError, EvidenceError
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest
from aicert.formats.lockfile import identity
from aicert.formats.statement import parse as parse_statement
from aicert.trust.built_in import BUILT_IN
from aicert.verifier import verify as api
from rules.commands.base import users_path
from rules.host import progress
from rules.project import lock
from rules.project.config import Run

CERTIFICATES = Path("certificates")
OUTPUTS = Path("outputs")
CAS = Path(".aicert") / "ca"
IMAGE_LOCK = Path("lockfiles") / "image.lock.toml"
GPU_IMAGE_LOCK = Path("lockfiles") / "image-gpu.lock.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a certificate: the policy to meet and, if the asker chose one, the nonce."""

    policy: Policy
    nonce: bytes | None

    def appraise(
        self, certificate: Certificate, model: Model | None, lockfile: Digest
    ) -> AttestationResult:
        """Appraise now, against the lockfile that is expected."""
        now = datetime.datetime.now(datetime.UTC)
        return appraise(
            certificate, model, self.policy, at=now, lockfile=lockfile, nonce=self.nonce
        )


def own_question(root: Path, run: Run, nonce: bytes | None) -> Question:
    """Under the policy of the run's own machine: it accepts what this checkout simulates."""
    driver = run.machine.driver
    image = _own_image(root, driver, GPU_IMAGE_LOCK if run.machine.gpu else IMAGE_LOCK)
    if driver in SIMULATED_TIERS:
        policy = api.choose_policy(driver, root=_own_ca(root, driver, run.name), image=image)
    else:
        # A cloud's own roots; of images, the one that this checkout builds.
        policy = api.choose_policy("default", image=image)
    return Question(policy=policy, nonce=nonce)


def question(root: Path, policy: str, pem: str, nonce: str, run: str) -> Question:
    """What a command line asks: a built-in policy or a policy file, an own root, a nonce.

    `run` is one whose certificate would make this checkout's CA.
    """
    if policy not in BUILT_IN:
        policy = str(users_path(policy))
    ca = users_path(pem) if pem else None
    if ca is None and policy in SIMULATED_TIERS:
        ca = _own_ca(root, policy, run)
    chosen = api.choose_policy(policy, root=ca, image=_own_image(root, policy))
    return Question(policy=chosen, nonce=api.expected_nonce(nonce or None))


def _own_image(root: Path, policy: str, name: Path = IMAGE_LOCK) -> Path | None:
    """This checkout's image, which its own measured machines boot."""
    lock = root / name
    return lock if policy in ("qemu", "azure") and lock.is_file() else None


def _own_ca(root: Path, driver: str, run: str) -> Path:
    pem = root / CAS / f"{driver}.pem"
    if not pem.is_file():
        raise ConfigError(
            f"policy {driver} reads this checkout's CA, which does not exist yet: {pem}; "
            "--root names another",
            hint=f"./doit certify {run}",
        )
    return pem


def certificate_path(root: Path, run: str) -> Path:
    """Where the certificate of a run stands."""
    return root / CERTIFICATES / run / "certificate.json"


def output_path(root: Path, run: Run) -> Path:
    """Where the run's output stands."""
    return root / OUTPUTS / run.name / run.outputs[0]


def read_certificate(root: Path, run: str) -> Certificate:
    """A run's certificate, not yet authenticated; EvidenceError where there is none."""
    path = certificate_path(root, run)
    if not path.exists():
        raise EvidenceError(f"run {run} has no certificate", hint=f"./doit certify {run}")
    return api.read_certificate(path)


def has_files(path: Path) -> bool:
    """Whether there is an output: one that is empty or missing has no files."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def read_model(path: Path, title: str) -> Model:
    """Every file of an output, read now. An output that is empty or missing has no files."""
    if not has_files(path):
        return {}
    with progress.task(title, unit="B") as bar:
        return api.read_model(path, bar.advance)


def runner_of(certificate: Certificate) -> Digest | None:
    """The runner's code as a certificate that passed names it."""
    return parse_statement(certificate.envelope.payload).builder.get("runner")


def verify(root: Path, run: Run, asked: Question) -> AttestationResult:
    """Appraise the run's certificate with its output and its lockfile as they are here."""
    certificate = read_certificate(root, run.name)
    expected = identity(lock.read(root, run.name))
    model = read_model(output_path(root, run), f"{run.name}: reading the model")
    return asked.appraise(certificate, model, expected)


def show(result: AttestationResult, form: str = "text") -> None:
    """Print a result on stdout: the table, or one JSON object on one line."""
    if form == "json":
        main.write(json.dumps(table.to_json(result)) + "\n")
    else:
        columns = main.terminal_columns()
        main.write(table.text(result, colour=main.use_colour(), columns=columns))
