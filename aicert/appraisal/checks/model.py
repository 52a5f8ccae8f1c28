"""Appraise the model on disk against the certified files, and the policy's own demands.

The model directory must be one certified output, file for file, and hold nothing that its reader
refused (`model.read_model`). Only names of the closed list in `inert` may stand beside it: they are
reported as present and not covered.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from aicert.appraisal.checklist import Ledger, NotApplicableError, NotDecidedError
from aicert.appraisal.checks.run import VerifiedRun, parse_time
from aicert.appraisal.policy import Claim, Policy
from aicert.crypto.x509 import stamp
from aicert.errors import EvidenceError
from aicert.formats.digest import Defect, FileFact, fold
from aicert.formats.statement import Output
from aicert.formats.uncovered_names import FOLDERS, GIT, is_inert

Model = Mapping[str, FileFact | Defect]
# What is found in the directory, or how to find out.
GivenModel = Model | Callable[[], Model]
SHOWN = 5
# A verifier's clock and a machine's may differ; more than that and one of them is wrong.
CLOCK_SKEW = timedelta(hours=24)
# More than lie between any two times.
MAX_DAYS = 4_000_000


def appraise_model(ledger: Ledger, run: VerifiedRun | None, given: GivenModel | None) -> None:
    """subject.files: the model on disk is exactly one of the certified outputs.

    A directory is as large as its sender likes: it is read only for a run that was verified.
    """
    verified = run is not None and ledger.is_ok("outputs.pcr8")
    model = (given() if verified else {}) if callable(given) else given

    def files(given: VerifiedRun) -> tuple[str, None]:
        if model is None:
            raise NotDecidedError("not checked: you gave no model directory")
        outputs = given.statement.outputs
        differences = {name: _differences(outputs[name], model) for name in outputs}
        for name, found in differences.items():
            if not found:
                return _covered(name, outputs[name], model), None
        name = min(differences, key=lambda n: len(differences[n]))
        shown = "\n".join(differences[name][:SHOWN])
        more = len(differences[name]) - SHOWN
        rest = f"\nand {more} more" if more > 0 else ""
        raise EvidenceError(f"the model directory is not output {name}\n{shown}{rest}")

    ledger.step("subject.files", files, run, "statement.form", "outputs.pcr8")


def _differences(output: Output, model: Model) -> list[str]:
    refused, lines, extra = [], [], []
    for path, found in model.items():
        inert = path not in output.files and path.startswith(FOLDERS)
        if isinstance(found, Defect) and not inert:
            # A path that a reader refused can hold anything; the reason is the reader's own text.
            refused.append(f"refused   {path[:200]!a}: {found.reason}")
        elif path not in output.files and not is_inert(path):
            extra.append(f"extra     {path}")
    for path, digest in output.files.items():
        fact = model.get(path)
        if fact is None:
            lines.append(f"missing   {path}")
        elif fold(path).startswith(FOLDERS):
            # Where case does not count, what lies unread in one folder takes the other's place.
            refused.append(f"refused   {path}: it can be taken for one in an unread folder")
        elif isinstance(fact, FileFact) and fact.sha256 != digest:
            lines.append(f"changed   {path}")
    return sorted(refused) + sorted(lines) + sorted(extra)


def _covered(name: str, output: Output, model: Model) -> str:
    inert = sorted(path for path in model if path not in output.files)
    covered = (model[path] for path in output.files)
    size = sum(fact.size for fact in covered if isinstance(fact, FileFact))
    text = f"output {name}: {len(output.files)} files, {size} bytes"
    if not inert:
        return text
    shown = ", ".join(inert[:SHOWN]) + (", …" if len(inert) > SHOWN else "")
    text = f"{text}\npresent, not covered: {shown}"
    if any(path.startswith(GIT) for path in inert):
        return f"{text}\na {GIT} of somebody else's can make git run programs: remove it"
    return text


def appraise_policy(
    ledger: Ledger, policy: Policy, run: VerifiedRun | None, at: datetime, fresh: str | None
) -> None:
    """policy.claims and policy.age; `fresh` says why the certificate is known to be recent."""

    def claims(given: VerifiedRun) -> tuple[str, None]:
        if not policy.claims:
            raise NotApplicableError(f"policy {policy.name} asks for no report value")
        said = [_check_claim(claim, given) for claim in policy.claims]
        return "; ".join(said), None

    def age(given: VerifiedRun) -> tuple[str, None]:
        if policy.max_age_days is None:
            raise NotApplicableError(f"policy {policy.name} sets no maximum age")
        _check_age(parse_time(given.statement.finished), at, policy.max_age_days)
        if fresh is None:
            raise NotDecidedError(
                "cannot tell how old it is: only a trusted time or your own nonce would say"
            )
        return fresh, None

    needs = ("statement.form", "outputs.pcr8")
    ledger.step("policy.claims", claims, run, *needs)
    ledger.step("policy.age", age, run, "statement.form")


def _check_claim(claim: Claim, run: VerifiedRun) -> str:
    if claim.name in DERIVED:
        number, origin = DERIVED[claim.name](run), "derived"
        if number is None:
            raise EvidenceError(f"the certificate does not say {claim.name}")
    else:
        number = run.report.number(claim.name)
        if number is None:
            raise EvidenceError(f"the run report has no number {claim.name}")
        origin = run.report.values[claim.name].origin
    if origin not in claim.origins:
        wanted = " or ".join(sorted(claim.origins))
        raise EvidenceError(f"{claim.name} is {origin}, {wanted} is wanted")
    if claim.at_least is not None and number < claim.at_least:
        raise EvidenceError(f"{claim.name} is {number}, at least {claim.at_least} is wanted")
    if claim.at_most is not None and number > claim.at_most:
        raise EvidenceError(f"{claim.name} is {number}, at most {claim.at_most} is wanted")
    return f"{claim.name} is {number} ({origin})"


def _template_share(run: VerifiedRun) -> float | None:
    return None if run.report.loss is None else run.report.loss.template_share


def _unread_bytes(run: VerifiedRun) -> float | None:
    return sum(r.unread_bytes for r in run.report.records) if run.report.version > 1 else None


# Numbers that this verifier derives; a value of the report by such a name is not looked at.
DERIVED: Mapping[str, Callable[[VerifiedRun], float | None]] = {
    "attestedSeconds": lambda run: run.seconds,
    "templateTokenShare": _template_share,
    "unreadBytes": _unread_bytes,
}


def _check_age(finished: datetime, at: datetime, days: int) -> None:
    """The machine's clock is the builder's claim, believed where it speaks against him."""
    # Differences of times exist; a sum of the year 9999 and some days does not.
    if at - finished > timedelta(days=min(days, MAX_DAYS)):
        raise EvidenceError(
            f"by its own clock the run ended at {stamp(finished)}, more than {days} days ago"
        )
    if finished - at > CLOCK_SKEW:
        raise EvidenceError(f"by its own clock the run ended at {stamp(finished)}, in the future")
