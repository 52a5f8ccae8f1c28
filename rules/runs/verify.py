"""Verify this checkout's certificates with this checkout's code.

This is for the repository's owners; a relying party uses `aicert verify`. It uses neither doit's
database nor the digest cache: every byte of the model is read again.
"""

import json
from pathlib import Path

from aicert.appraisal.checks.model import Model
from aicert.appraisal.result import AttestationResult
from aicert.cli import table, terminal
from aicert.cli.verify.section import Section
from aicert.errors import EvidenceError
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest
from aicert.formats.lockfile import identity
from aicert.formats.statement import parse as parse_statement
from aicert.verifier import verify as api
from rules.host import progress
from rules.project import locked, results
from rules.project.config import Run
from rules.runs import unknown_ca
from rules.runs.appraisal import AppraisalRequest


def read_model(path: Path, title: str) -> Model:
    """Read every file of an output now. An empty or missing output has no files."""
    if not results.has_files(path):
        return {}
    with progress.task(title, unit="B") as bar:
        return api.read_model(path, bar.advance)


def runner_of(certificate: Certificate) -> Digest | None:
    """Return the digest of the runner's code in a certificate that passed."""
    return parse_statement(certificate.envelope.payload).builder.get("runner")


def verify(root: Path, run: Run, asked: AppraisalRequest) -> AttestationResult:
    """Return the result of appraising the run's certificate with the output and lockfile here."""
    return judged(root, run, asked).result


def judged(root: Path, run: Run, asked: AppraisalRequest) -> unknown_ca.Appraised:
    """Appraise the run's certificate with the output and lockfile here.

    Raises EvidenceError if the only problem is that this checkout does not know who vouches for it,
    or that it does not have the output: that is no verdict.
    """
    certificate = results.read_certificate(root, run.name)
    expected = identity(locked.read(root, run.name))
    path = results.output_path(root, run)
    model = read_model(path, f"{run.name}: reading the model")
    result = asked.appraise(certificate, model, expected)
    appraised = unknown_ca.Appraised(certificate, model, expected, result)
    # Without the output, the certificate alone is judged.
    alone = appraised if model else _without_model(asked, appraised)
    unknown = unknown_ca.unknown(root, run, asked, alone)
    if unknown is not None:
        raise EvidenceError(f"run {run.name}: no verdict: {unknown.text}", hint=unknown.hint)
    if not model and alone.result.certificate_consistent == "yes":
        raise EvidenceError(
            f"run {run.name}: no verdict: its output is not here: {path.relative_to(root)}",
            hint=f"./doit dvc pull, or ./doit certify {run.name}",
        )
    return appraised


def _without_model(
    asked: AppraisalRequest, appraised: unknown_ca.Appraised
) -> unknown_ca.Appraised:
    result = asked.appraise(appraised.certificate, None, appraised.lockfile)
    return appraised._replace(model=None, result=result)


def show(result: AttestationResult, form: str = "text", evidence: Section | None = None) -> None:
    """Print a result on stdout, and what evidence there is beside it: the table, or one JSON object
    on one line.
    """
    if form == "json":
        more = {} if evidence is None else {"evidence": evidence.to_json()}
        terminal.write(json.dumps(table.to_json(result) | more) + "\n")
    else:
        shown = table.text(
            result,
            colour=terminal.use_colour(),
            columns=terminal.terminal_columns(),
            has_evidence=evidence is not None,
            has_roots=True,
        )
        terminal.write(shown)
        if evidence is not None:
            terminal.write_lines("".join(f"{line}\n" for line in evidence.lines()))
