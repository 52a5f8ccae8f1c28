"""Appraise what the machine says: statement, inputs, outputs (design: verifying).

The statement is parsed after its signature was verified. What it repeats is compared with what was
verified elsewhere; PCR 14 is computed from the lockfile alone and PCR 8 from the statement, and
both are compared with the quote. No event log takes part.
"""

from datetime import datetime

from aicert.appraisal.checklist import Ledger, NotDecidedError, both
from aicert.appraisal.checks.quote import VerifiedQuote, VerifiedRunKey
from aicert.crypto.signatures import verify_ecdsa_sha256
from aicert.errors import AicertError, EvidenceError
from aicert.formats import lockfile as lockfiles
from aicert.formats import statement as statements
from aicert.formats.certificate import Certificate
from aicert.formats.digest import EMPTY_FILE_HEX, Digest, dir_digest, of_bytes
from aicert.formats.dsse import pae
from aicert.formats.lockfile import Lockfile
from aicert.formats.measurement import INPUT_PCR, OUTPUT_PCR, output_events, replay
from aicert.formats.run_report import RunReport
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import Statement
from aicert.frozen import dataclass
from aicert.text import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRun:
    """A statement signed by the verified run key, its report, and the lockfile that it names.

    `seconds` that the run took at most, by the TPM's clock; None where that is not attested.
    """

    statement: Statement
    report: RunReport
    lockfile: Lockfile
    seconds: float | None


def readable_lockfile(certificate: Certificate) -> Lockfile | None:
    """The parsed lockfile; where it cannot be read, inputs.lockfile says why."""
    try:
        return lockfiles.parse(certificate.lockfile)
    except AicertError:
        return None


def appraise_statement(
    ledger: Ledger,
    certificate: Certificate,
    run_key: VerifiedRunKey | None,
    lockfile: Lockfile | None,
    seconds: float | None,
) -> VerifiedRun | None:
    """statement.signature and statement.form; after `appraise_lockfile`.

    `seconds`: what `appraise_run_time` found.
    """

    def signature(given: VerifiedRunKey) -> tuple[str, bytes]:
        _verify_dsse(given, certificate)
        return "signed by that run key", certificate.envelope.payload

    def form(given: tuple[bytes, Lockfile]) -> tuple[str, VerifiedRun]:
        payload, locked = given
        statement = statements.parse(payload)
        report = parse_report(statement.report)
        _check_repeated(statement, report, certificate, locked)
        run = VerifiedRun(statement=statement, report=report, lockfile=locked, seconds=seconds)
        signed = "".join(f"\ninput {name} signed by {key}" for name, key in report.signers)
        return f"run {statement.run}, as its lockfile and nonce say{signed}", run

    payload = ledger.step("statement.signature", signature, run_key, "runkey.certified")
    needs = ("statement.signature", *_lockfile_needs(lockfile))
    return ledger.step("statement.form", form, both(payload, lockfile), *needs)


def _lockfile_needs(lockfile: Lockfile | None) -> tuple[str, ...]:
    return () if lockfile is not None else ("inputs.lockfile",)


def _verify_dsse(run_key: VerifiedRunKey, certificate: Certificate) -> None:
    envelope = certificate.envelope
    refusal = "the statement is not signed by the run key"
    verify_ecdsa_sha256(run_key.key, envelope.signature, pae(envelope.payload), refusal)


def _check_repeated(
    statement: Statement, report: RunReport, certificate: Certificate, lockfile: Lockfile
) -> None:
    """Every field that repeats something verified equals it."""
    dependencies = tuple((d.name, d.uri, d.digest) for d in statement.dependencies)
    pairs: tuple[tuple[str, object, object], ...] = (
        ("nonce", statement.nonce.hex(), certificate.evidence.nonce.hex()),
        ("lockfile", statement.lockfile, of_bytes(certificate.lockfile)),
        ("run", statement.run, lockfile.run),
        ("trainer", statement.trainer, lockfile.trainer),
        ("outputs", tuple(statement.outputs), lockfile.outputs),
        ("inputs", dependencies, tuple((i.name, i.uri, i.digest) for i in lockfile.inputs)),
        # A runner that knows nothing of `signed-by` has not looked at any signature.
        ("signers", report.signers, lockfiles.signers(lockfile)),
        # The machine signs the one; the other, which nobody signs, decides what is attested.
        ("report version", report.version, certificate.version),
    )
    for what, found, wanted in pairs:
        if found != wanted:
            shown = f"\nfound     {str(found)[:200]!a}\nexpected  {str(wanted)[:200]!a}"
            lines = "" if what == "inputs" else shown
            raise EvidenceError(f"the statement's {what} differs from what was verified{lines}")
    for name, _ in report.signatures:
        if name not in statement.outputs:
            raise EvidenceError(f"the run report has a signature of {name}, which is no output")
    if parse_time(statement.started) > parse_time(statement.finished):
        raise EvidenceError("the statement's run ends before it starts")


def parse_time(text: str) -> datetime:
    """A time of a statement; one that no calendar has is an EvidenceError."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise EvidenceError(f"the statement's time {text} does not exist") from None


def appraise_lockfile(ledger: Ledger, certificate: Certificate, wanted: Digest | None) -> None:
    """inputs.lockfile: canonical, and the one that the caller expects if it named one."""

    def lockfile(data: bytes) -> tuple[str, None]:
        lockfiles.parse(data)
        found = of_bytes(data)
        if wanted is None:
            raise NotDecidedError(f"you did not say which lockfile you expect; this is\n{found}")
        if found != wanted:
            raise EvidenceError(
                "the certificate is of another lockfile than yours\n"
                f"found     {found}\nexpected  {wanted}"
            )
        return "the lockfile that you named", None

    ledger.step("inputs.lockfile", lockfile, certificate.lockfile)


def appraise_inputs(
    ledger: Ledger,
    certificate: Certificate,
    quote: VerifiedQuote | None,
    lockfile: Lockfile | None,
) -> None:
    """inputs.pcr14, computed from the lockfile alone."""

    def pcr14(given: tuple[VerifiedQuote, Lockfile]) -> tuple[str, None]:
        expected = lockfiles.pcr14(certificate.lockfile)
        found = given[0].pcrs[INPUT_PCR]
        if found != expected:
            raise EvidenceError(
                "the machine measured other inputs or another lockfile\n"
                f"quoted    sha256:{found.hex()}\nexpected  sha256:{expected.hex()}",
                hint="compare the lockfile with the one that the run was started with",
            )
        return "the machine measured this lockfile and these inputs", None

    needs = ("quote.pcrs", *_lockfile_needs(lockfile))
    ledger.step("inputs.pcr14", pcr14, both(quote, lockfile), *needs)


def appraise_outputs(ledger: Ledger, run: VerifiedRun | None, quote: VerifiedQuote | None) -> None:
    """outputs.exit, outputs.pcr8 and outputs.nonempty: how training ended, and what it gave."""

    def ended(given: VerifiedRun) -> tuple[str, None]:
        if given.report.exit_code != "0":
            raise EvidenceError(f"training failed: it ended with {given.report.exit_code}")
        return "training ended with exit code 0", None

    def pcr8(given: tuple[VerifiedRun, VerifiedQuote]) -> tuple[str, None]:
        verified, quoted = given
        _check_pcr8(verified, quoted)
        return "the machine measured these outputs, exit code and report", None

    ledger.step("outputs.exit", ended, run, "statement.form")
    ledger.step("outputs.pcr8", pcr8, both(run, quote), "statement.form", "quote.pcrs")
    ledger.step("outputs.nonempty", _nonempty, run, "statement.form")


def _check_pcr8(run: VerifiedRun, quote: VerifiedQuote) -> None:
    digests = {}
    for name, output in run.statement.outputs.items():
        # From the files that the statement lists, so that no digest stands for other files.
        digests[name] = dir_digest(output.files)
        if digests[name] != output.digest:
            raise EvidenceError(
                f"output {name} does not have the dirHash given for it\n"
                f"found     {output.digest}\nexpected  {digests[name]}"
            )
    report = run.statement.report_digest
    expected = replay(output_events(run.report.exit_code, digests, report))
    found = quote.pcrs[OUTPUT_PCR]
    if found != expected:
        raise EvidenceError(
            "the machine measured other outputs, another exit code or another report\n"
            f"quoted    sha256:{found.hex()}\nexpected  sha256:{expected.hex()}"
        )


def _nonempty(run: VerifiedRun) -> tuple[str, None]:
    count = 0
    for name, output in run.statement.outputs.items():
        count += len(output.files)
        if all(digest == EMPTY_FILE_HEX for digest in output.files.values()):
            raise EvidenceError(f"output {name} holds no file, or only empty ones")
    return f"{counted(count, 'file')} in {counted(len(run.statement.outputs), 'output')}", None
