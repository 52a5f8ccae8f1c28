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
from aicert.cli import table, terminal
from aicert.errors import ConfigError
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest
from aicert.formats.lockfile import identity
from aicert.formats.statement import parse as parse_statement
from aicert.trust.built_in import BUILT_IN
from aicert.verifier import verify as api
from rules.host import progress
from rules.host.terminal import users_path
from rules.image.place import GPU_LOCK, LOCK
from rules.machines.machine import DRIVERS, Driver
from rules.project import locked, results
from rules.project.config import Run

CAS = Path(".aicert") / "ca"


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
    # A cloud's own roots, or this checkout's; of images, the one that this checkout builds.
    pem = _own_ca(root, driver.policy, run.name) if driver.policy in SIMULATED_TIERS else None
    image = _own_image(root, driver, gpu=run.machine.gpu)
    policy = api.choose_policy(driver.policy, root=pem, image=image)
    return Question(policy=policy, nonce=nonce)


def question(
    root: Path, policy: str, pem: str, nonce: str, run: str, *, gpu: bool = False
) -> Question:
    """What a command line asks: a built-in policy or a policy file, an own root, a nonce.

    `run` is one whose certificate would make this checkout's CA. `gpu`: of this checkout's images,
    the one with GPU drivers is meant.
    """
    if policy not in BUILT_IN:
        policy = str(users_path(policy))
    ca = users_path(pem) if pem else None
    if ca is None and policy in SIMULATED_TIERS:
        ca = _own_ca(root, policy, run)
    simulated = [d for d in DRIVERS.values() if d.policy == policy and policy in SIMULATED_TIERS]
    image = _own_image(root, simulated[0], gpu=gpu) if simulated else None
    chosen = api.choose_policy(policy, root=ca, image=image)
    return Question(policy=chosen, nonce=api.expected_nonce(nonce or None))


def _own_image(root: Path, driver: Driver, *, gpu: bool = False) -> Path | None:
    """This checkout's image, which its own measured machines boot."""
    lock = root / (GPU_LOCK if gpu else LOCK)
    return lock if driver.in_image and lock.is_file() else None


def _own_ca(root: Path, driver: str, run: str) -> Path:
    pem = root / CAS / f"{driver}.pem"
    if not pem.is_file():
        raise ConfigError(
            f"policy {driver} uses this checkout's CA, which does not exist yet: {pem}; "
            "--root names another",
            hint=f"./doit certify {run}",
        )
    return pem


def read_model(path: Path, title: str) -> Model:
    """Every file of an output, read now. An output that is empty or missing has no files."""
    if not results.has_files(path):
        return {}
    with progress.task(title, unit="B") as bar:
        return api.read_model(path, bar.advance)


def runner_of(certificate: Certificate) -> Digest | None:
    """The runner's code as a certificate that passed names it."""
    return parse_statement(certificate.envelope.payload).builder.get("runner")


def verify(root: Path, run: Run, asked: Question) -> AttestationResult:
    """Appraise the run's certificate with its output and its lockfile as they are here."""
    certificate = results.read_certificate(root, run.name)
    expected = identity(locked.read(root, run.name))
    model = read_model(results.output_path(root, run), f"{run.name}: reading the model")
    return asked.appraise(certificate, model, expected)


def show(result: AttestationResult, form: str = "text") -> None:
    """Print a result on stdout: the table, or one JSON object on one line."""
    if form == "json":
        terminal.write(json.dumps(table.to_json(result)) + "\n")
    else:
        columns = terminal.terminal_columns()
        terminal.write(table.text(result, colour=terminal.use_colour(), columns=columns))
