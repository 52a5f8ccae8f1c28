"""Appraise what the machine says about the run: statement.signature and statement.form.

The statement is parsed only after its signature was verified. Whatever it repeats is compared with
what was verified elsewhere. Only `appraise_statement` makes a VerifiedRun, which all later checks
are about.
"""

from datetime import datetime

from aicert.appraisal.checklist import Checklist, both
from aicert.appraisal.checks.inputs import lockfile_needs
from aicert.appraisal.checks.run_key import VerifiedRunKey
from aicert.crypto.signatures import verify_ecdsa
from aicert.errors import EvidenceError
from aicert.formats import lockfile as lockfiles
from aicert.formats import statement as statements
from aicert.formats.certificate import Certificate
from aicert.formats.digest import of_bytes
from aicert.formats.dsse import pae
from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import RunReport
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import Statement
from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRun:
    """A statement signed by the verified run key, its report, and the lockfile that it names.

    `seconds`: how long the run took at most, by the TPM's clock; None if that is not attested.
    """

    statement: Statement
    report: RunReport
    lockfile: Lockfile
    seconds: float | None


def appraise_statement(
    checklist: Checklist,
    certificate: Certificate,
    run_key: VerifiedRunKey | None,
    lockfile: Lockfile | None,
    seconds: float | None,
) -> VerifiedRun | None:
    """Decide statement.signature and statement.form; called after `appraise_lockfile`.

    `seconds`: what `appraise_run_time` returned.
    """

    def signature(given: VerifiedRunKey) -> tuple[str, bytes]:
        envelope, refusal = certificate.envelope, "the statement is not signed by the run key"
        verify_ecdsa(given.key, envelope.signature, pae(envelope.payload), "sha256", refusal)
        return "signed by that run key", envelope.payload

    def form(given: tuple[bytes, Lockfile]) -> tuple[str, VerifiedRun]:
        payload, locked = given
        statement = statements.parse(payload)
        report = parse_report(statement.report)
        _check_repeated(statement, report, certificate, locked)
        if lockfiles.input_code(locked):
            report = report.self_reported
        run = VerifiedRun(statement=statement, report=report, lockfile=locked, seconds=seconds)
        signed = "".join(f"\ninput {name} signed by {key}" for name, key in report.signers)
        return f"run {statement.run}; lockfile and nonce match{signed}", run

    payload = checklist.step("statement.signature", signature, run_key, "runkey.certified")
    needs = ("statement.signature", *lockfile_needs(lockfile))
    return checklist.step("statement.form", form, both(payload, lockfile), *needs)


def _check_repeated(
    statement: Statement, report: RunReport, certificate: Certificate, lockfile: Lockfile
) -> None:
    """Check that each field that repeats something verified is equal to it."""
    dependencies = tuple((d.name, d.uri, d.digest) for d in statement.dependencies)
    pairs: tuple[tuple[str, object, object], ...] = (
        ("nonce", statement.nonce.hex(), certificate.evidence.nonce.hex()),
        ("lockfile", statement.lockfile, of_bytes(certificate.lockfile)),
        ("run", statement.run, lockfile.run),
        ("trainer", statement.trainer, lockfile.trainer),
        ("outputs", tuple(statement.outputs), lockfile.outputs),
        ("inputs", dependencies, tuple((i.name, i.uri, i.digest) for i in lockfile.inputs)),
        # A runner that does not know `signed-by` has not looked at any signature.
        ("signers", report.signers, lockfiles.signers(lockfile)),
        # Nor has an older runner made the audits that must hold before it trains.
        ("audits", report.audited, lockfile.audits),
        # The machine signs the report's version; nobody signs the certificate's, which decides what
        # is attested.
        ("report version", report.version, certificate.version),
    )
    for what, stated, expected in pairs:
        if stated != expected:
            shown = f"\nfound     {str(stated)[:200]!a}\nexpected  {str(expected)[:200]!a}"
            lines = "" if what == "inputs" else shown
            raise EvidenceError(f"the statement contradicts what was verified: {what}{lines}")
    for name, _ in report.signatures:
        if name not in statement.outputs:
            raise EvidenceError(
                f"the run report has a signature for {name}, which is not an output"
            )
    if parse_time(statement.started) > parse_time(statement.finished):
        raise EvidenceError("the statement's run ends before it starts")


def parse_time(text: str) -> datetime:
    """Parse a time from a statement; raises EvidenceError if the calendar has no such date."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise EvidenceError(f"the statement's time {text} does not exist") from None
