"""Appraise what the policy itself demands of a run: policy.claims and policy.age."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from aicert.appraisal.checklist import Checklist, NotApplicableError
from aicert.appraisal.checks.context import Context
from aicert.appraisal.checks.run import VerifiedRun, parse_time
from aicert.appraisal.policy import CLOCK_SKEW, Claim
from aicert.appraisal.result import Ancestor
from aicert.crypto.x509 import stamp
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.lockfile import CODE_WORDS
from aicert.formats.lockfile import input_code as code_of

# More days than there are between any two dates.
MAX_DAYS = 4_000_000
_RAN = "code that came with {} ran in the trainer"
_CAN_RUN = "pickles in {} can run code in the trainer"
_CODE = dict(zip(CODE_WORDS, (_RAN, _CAN_RUN), strict=True))


def input_code(
    run: VerifiedRun | None, ancestors: Sequence[Ancestor] = ()
) -> tuple[tuple[str, str], ...]:
    """Return the code from inputs that may have run in the trainer of this run or of an ancestor.

    Each entry is a word of CODE_WORDS and a text that describes the code.
    """
    own = []
    if run is not None:
        named = [
            (w, f"input {name} of run {run.lockfile.run}") for w, name in code_of(run.lockfile)
        ]
        own = [(word, _CODE[word].format(whose)) for word, whose in named]
    before = [each.result.input_code for each in ancestors if each.result is not None]
    return tuple(dict.fromkeys([*own, *(one for code in before for one in code)]))


def appraise_policy(
    checklist: Checklist, context: Context, *, is_fresh: bool, began: datetime | None
) -> None:
    """Decide policy.claims and policy.age; called after lineage.ancestors.

    `is_fresh`: whether the certificate answers the caller's own nonce. `began`: a trusted time
    after which the machine answered; it shows the age too. (A time stamp on the certificate does
    not, since anybody can add one to an old certificate today.)
    """
    policy, at, code = context.policy, context.at, input_code(context.run, context.ancestors)

    def claims(given: VerifiedRun) -> tuple[str, None]:
        for word, text in code:
            if word not in policy.allow:
                lacks = f'{text}: policy {policy.name} lacks allow = ["{word}"]'
                raise UndecidedError(lacks, hint="--policy FILE (docs/spec/policy.md)")
        details = [f"{text}, which policy {policy.name} allows" for _, text in code]
        details += [_check_claim(claim, given) for claim in policy.claims]
        if not details:
            raise NotApplicableError(f"policy {policy.name} makes no claim about the run report")
        return "; ".join(details), None

    def age(given: VerifiedRun) -> tuple[str, None]:
        if policy.max_age_days is None:
            raise NotApplicableError(f"policy {policy.name} sets no maximum age")
        _check_age(parse_time(given.statement.finished), at, policy.max_age_days)
        if is_fresh:
            return "it answers your own nonce", None
        most = timedelta(days=min(policy.max_age_days, MAX_DAYS))
        if began is not None and at - began <= most:
            return f"the machine answered after {stamp(began)}", None
        raise UndecidedError(
            "its age is unknown: only a trusted time or your own nonce can show it"
        )

    checklist.step("policy.claims", claims, context.run, "statement.form", "outputs.pcr8")
    checklist.step("policy.age", age, context.run, "statement.form")


def _check_claim(claim: Claim, run: VerifiedRun) -> str:
    if claim.name in DERIVED:
        number, origin = DERIVED[claim.name](run), "derived"
        if number is None:
            raise EvidenceError(f"the certificate does not state {claim.name}")
    else:
        number = run.report.number(claim.name)
        if number is None:
            raise EvidenceError(f"the run report has no number {claim.name}")
        origin = run.report.values[claim.name].origin
    if origin not in claim.origins:
        wanted = " or ".join(sorted(claim.origins))
        raise EvidenceError(f"{claim.name} is {origin}, but the policy requires {wanted}")
    stated = f"{claim.name} is {number}"
    if claim.at_least is not None and number < claim.at_least:
        raise EvidenceError(f"{stated}, but the policy requires at least {claim.at_least}")
    if claim.at_most is not None and number > claim.at_most:
        raise EvidenceError(f"{stated}, but the policy allows at most {claim.at_most}")
    return f"{stated} ({origin})"


def _template_share(run: VerifiedRun) -> float | None:
    return None if run.report.loss is None else run.report.loss.template_share


def _unread_bytes(run: VerifiedRun) -> float | None:
    return sum(r.unread_bytes for r in run.report.records) if run.report.version > 1 else None


# Numbers that this verifier derives; a value of the same name in a report is ignored.
DERIVED: Mapping[str, Callable[[VerifiedRun], float | None]] = {
    "attestedSeconds": lambda run: run.seconds,
    "templateTokenShare": _template_share,
    "unreadBytes": _unread_bytes,
}


def _check_age(finished: datetime, at: datetime, days: int) -> None:
    """Check the run's age by the machine's clock.

    That clock is the builder's claim, so it can only count against the builder.
    """
    ended = f"by its machine's clock the run ended at {stamp(finished)}"
    # Subtract times: adding days to the year 9999 would overflow.
    if at - finished > timedelta(days=min(days, MAX_DAYS)):
        raise EvidenceError(f"{ended}, more than {days} days ago")
    if finished - at > CLOCK_SKEW:
        raise EvidenceError(f"{ended}, in the future")
