"""Where a run's results are: its certificate, and its outputs."""

from pathlib import Path

from aicert.errors import EvidenceError
from aicert.formats.certificate import Certificate
from aicert.verifier import verify
from rules.project.config import Run
from rules.project.sources import OUTPUTS

CERTIFICATES = Path("certificates")
# Reproductions with equal bytes: RUN/MACHINE/certificate.json.
REPRODUCTIONS = Path("reproductions")


def certificate_path(root: Path, run: str) -> Path:
    """Return where a run's certificate is."""
    return root / CERTIFICATES / run / "certificate.json"


def output_path(root: Path, run: Run) -> Path:
    """Return where the run's output is."""
    return root / OUTPUTS / run.name / run.outputs[0]


def has_files(path: Path) -> bool:
    """Whether there is an output: an empty or missing one has no files."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def read_certificate(root: Path, run: str) -> Certificate:
    """Return a run's certificate, not yet authenticated. Raises EvidenceError if there is none."""
    path = certificate_path(root, run)
    if not path.exists():
        raise EvidenceError(f"run {run} has no certificate", hint=f"./doit certify {run}")
    return verify.read_certificate(path)
