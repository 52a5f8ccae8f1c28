"""Judge what audits counted in the rows that a run read: audit.present, audit.list, audit.result.

An audit counts if its certificate passes under the caller's policy (except for claims and demanded
audits, which apply only to models), if it is of kind audit, or of a training before which the audit
was made, names exactly the given results, and agrees with them about rows and lists. The rows link
it to a run: by digest, count and bytes (docs/spec/audit.md, "Demanded by a policy"). Texts besides
the rows are linked by their digests; a text that no audit covers is a gap unless the policy names
it. Ancestors are judged under the same policy, so each has these checks too.
"""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Any, Final

from aicert.appraisal.checklist import NotApplicableError
from aicert.appraisal.checks.context import Context
from aicert.appraisal.checks.kinds import (
    ADAPTER_INPUT,
    BASE_INPUT,
    DERIVED,
    KINDS,
    MODEL_INPUT,
    OF_RESULTS,
    RESULTS,
    Kind,
    kind_of,
)
from aicert.appraisal.checks.run import VerifiedRun
from aicert.appraisal.evidence.accepted import AuditDemand
from aicert.appraisal.evidence.audited import Audit
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.audits import joining
from aicert.audits import results as forms
from aicert.audits.results import CheckFact, Counts, Results
from aicert.errors import AicertError, EvidenceError, RejectedError, UndecidedError
from aicert.formats import evaluated_tasks, evaluation, lockfile
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest, FileFact, of_bytes
from aicert.formats.evaluated_tasks import Evaluated
from aicert.formats.listing import dir_digest
from aicert.formats.run_report_facts import MORE_TEXTS, Records
from aicert.frozen import dataclass
from aicert.text import counted

SHOWN = 5
# A hint to paste names more of them than a reader is shown.
_HINTED = 32
MODEL = "subject.files"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hit:
    """A check of an audit that read the rows, and what it counted."""

    audit: Audit
    check: CheckFact
    counts: Counts


def check_verdict(
    verdict: AttestationResult, data: bytes, *, kind: Kind = "audit", hint: str | None = None
) -> None:
    """Check that a run which makes results passes, and that its certificate names exactly these.

    `kind`: the kind of run, an audit by default; a training that was preceded by that audit counts
    too. Raises RejectedError, or UndecidedError if there is no verdict.
    """
    what = OF_RESULTS[kind]
    if verdict.failed:
        first = verdict.failed[0]
        raise RejectedError(
            f"the {what}'s certificate fails: {first.id}: {first.detail}", verdict, hint=hint
        )
    if verdict.certificate_consistent != "yes":
        # A missing model is undecided too, but that is not a reason.
        first = next((one for one in verdict.undecided if one.id != MODEL), verdict.undecided[0])
        raise UndecidedError(
            f"the {what}'s certificate has no verdict: {first.id}: {first.detail}", hint=hint
        )
    if kind == "audit" and before(verdict, of_bytes(data)) is not None:
        return
    if verdict.kind != kind:
        raise RejectedError(
            f"the certificate is not an {what}'s: its kind is {verdict.kind}", verdict
        )
    digest = dir_digest({RESULTS: FileFact(len(data), of_bytes(data).hex)})
    if list((verdict.subject or {}).values()) != [str(digest)]:
        raise RejectedError("these are not the results that the certificate names", verdict)


def before(verdict: AttestationResult, digest: Digest) -> str | None:
    """Return the name of the audit before a training whose results have this digest.

    `verdict`: the training's. None if it had no such audit.
    """
    audits = () if verdict.facts is None else verdict.facts.audits
    named = audits if verdict.kind == "train" else ()
    return next((name for name, one in named if one == digest), None)


def check_joined(results: Results, certificate: Certificate, verdict: AttestationResult) -> None:
    """Raise RejectedError unless the results agree with the certificate that names them.

    They must be about its rows and lists.
    """
    locked = lockfile.parse(certificate.lockfile)
    audit = before(verdict, of_bytes(forms.emit(results)))
    begin = "" if audit is None else lockfile.audit_input(audit, "")
    inputs = {
        i.name.removeprefix(begin): i.digest for i in locked.inputs if i.name[: len(begin)] == begin
    }
    try:
        joining.check_rows(results, () if verdict.facts is None else verdict.facts.records)
        joining.check_lists(results.checks, inputs)
    except EvidenceError as error:
        raise RejectedError(error.message, verdict) from None


def read_evaluation(certificate: Certificate, data: bytes, verdict: AttestationResult) -> Evaluated:
    """Return the results of an evaluation, whose certificate names them (`check_verdict`).

    Raises EvidenceError unless they are about inputs and rows of that run.
    """
    lock = lockfile.parse(certificate.lockfile)
    results = evaluated_tasks.read(lock.trainer, data)
    inputs = {one.name: one.digest for one in lock.inputs}
    records = () if verdict.facts is None else verdict.facts.records
    evaluation.check_joined(results, records, inputs)
    return results


def judged(certificate: Certificate, data: bytes, verdict: AttestationResult) -> Audit:
    """Return whether these results count, given the verdict on the certificate that should name
    them.
    """
    kind = _claimed(certificate)
    try:
        check_verdict(verdict, data, kind=kind)
        if kind == "evaluate":
            evaluated = read_evaluation(certificate, data, verdict)
            return Audit(verdict=verdict, kind=kind, evaluation=evaluated)
        results = forms.parse(data)
        check_joined(results, certificate, verdict)
    except AicertError as error:
        return Audit(verdict=verdict, kind=kind, refused=error.message.partition("\n")[0])
    return Audit(verdict=verdict, results=results)


def _claimed(certificate: Certificate) -> Kind:
    """Return the kind of run that the certificate claims; it is judged as that kind."""
    try:
        claimed = KINDS.get(lockfile.parse(certificate.lockfile).trainer)
    except AicertError:
        claimed = None
    return "evaluate" if claimed == "evaluate" else "audit"


class JudgedAudits:
    """Certificates of audits and evaluations, with their results. Each is judged once, when its
    verdict is first needed.

    Its verdicts are under one policy at one time, and only appraisals with these may use them.
    """

    __slots__ = ("_appraise", "_at", "_policy", "_verdicts", "each")

    def __init__(
        self,
        audits: Sequence[tuple[Certificate, bytes]],
        policy: Policy,
        at: datetime,
        appraise: Callable[[Certificate, Policy, datetime], AttestationResult],
    ) -> None:
        self._policy, self._at, self._appraise = policy, at, appraise
        # By identity. Each certificate is kept, so that no other one gets its identity.
        self._verdicts: dict[int, tuple[Certificate, AttestationResult]] = {}
        self.each = tuple(cache(partial(self._judged, one, data)) for one, data in audits)

    def verdict(self, certificate: Certificate) -> AttestationResult:
        """Return the verdict on this certificate, whether it is one of an audit or not."""
        if id(certificate) not in self._verdicts:
            verdict = self._appraise(certificate, self._policy, self._at)
            self._verdicts[id(certificate)] = certificate, verdict
        return self._verdicts[id(certificate)][1]

    def under(self, policy: Policy, at: datetime) -> tuple[Callable[[], Audit], ...]:
        """Return the audits for an appraisal, which must have the policy and time of these."""
        if (policy, at) != (self._policy, self._at):
            raise ValueError("the audits were judged under another policy or at another time")
        return self.each

    def _judged(self, certificate: Certificate, data: bytes) -> Audit:
        return judged(certificate, data, self.verdict(certificate))


def present(context: Context) -> tuple[str, tuple[AttestationResult, ...]]:
    """Decide audit.present: audits of the demanded kinds read all rows, and left out no text.

    Returns the verdicts on these audits.
    """
    run, audits = _asked(context)
    ancestors = {ancestor.input for ancestor in context.ancestors}
    if not run.report.records:
        _check_unread(run, ancestors)
    _check_weights(run, ancestors)
    used: list[AttestationResult] = []
    lines = []
    for demand in context.policy.audits:
        _check_texts(run, demand, audits)
        for rows in run.report.records:
            hits = _hits(demand, rows, audits)
            if not hits:
                raise EvidenceError(_gap(demand, run.lockfile.run, rows, audits))
            used += [one.audit.verdict for one in hits if one.audit.verdict not in used]
            by = ", ".join(dict.fromkeys(name_of(one.audit) for one in hits))
            lines.append(f"{rows.name} {rows.split} for {_what(demand)}: {by}")
    return "\n".join(some(lines) or ["the run read no rows"]), tuple(used)


def lists(context: Context) -> tuple[str, None]:
    """Decide audit.list: the audits used exactly the demanded lists."""
    run, audits = _asked(context)
    wanted = [demand for demand in context.policy.audits if demand.list is not None]
    if not wanted:
        raise NotApplicableError(f"policy {context.policy.name} demands no audit with a list")
    for demand in wanted:
        for rows in run.report.records:
            hits = _hits(demand, rows, audits)
            if not _with_list(demand, hits):
                others = sorted({str(one.check.list.digest) for one in hits if one.check.list})
                raise EvidenceError(
                    f"{rows.name} {rows.split} was audited for {_what(demand)} with another list\n"
                    f"found     {', '.join(others)}\nexpected  {demand.list}"
                )
        for name, text in _unnamed(run, demand):
            if not _of_texts(demand, text, audits, {demand.list}):
                raise EvidenceError(
                    f"text {name} was audited for {_what(demand)} with another list"
                )
    return "\n".join(some([f"{demand.kind}: {demand.list}" for demand in wanted])), None


def result(context: Context) -> tuple[str, None]:
    """Decide audit.result: the counts are within the policy's bounds."""
    run, audits = _asked(context)
    lines, unbounded = [], []
    for demand in context.policy.audits:
        counts = _total(demand, run, audits)
        bounds = _bounds(demand)
        for what, number in counts.items():
            most = bounds[what]
            if most is None and number:
                unbounded.append(f"{_what(demand)}: {what} {number}, without a bound")
            if most is not None and number > most:
                raise EvidenceError(
                    f"{_what(demand)}: {what} {number}, "
                    f"but policy {context.policy.name} allows {most}"
                )
        rows = counted(sum(rows.rows for rows in run.report.records), "row")
        shown = ", ".join(f"{what} {number}" for what, number in counts.items())
        lines.append(f"{_what(demand)}: of {rows}, {shown}")
    if unbounded:
        raise UndecidedError(f"policy {context.policy.name} cannot judge this: {unbounded[0]}")
    return "\n".join(some(lines)), None


def _asked(context: Context) -> tuple[VerifiedRun, list[Audit]]:
    """Return the run, and the audits that were given."""
    if context.run is None:
        raise ValueError("audits are judged before their run is verified")
    if kind_of(context.run) in OF_RESULTS:
        raise NotApplicableError(f"the run is an {OF_RESULTS[kind_of(context.run)]} itself")
    if context.run.report.version == 1:
        raise UndecidedError("a run report of version 1 does not say which rows were read")
    if context.audits is None:
        raise UndecidedError("you gave no audits", hint="--evidence DIR")
    given = [audit() for audit in context.audits]
    return context.run, [audit for audit in given if audit.kind == "audit"]


def _check_unread(run: VerifiedRun, ancestors: Container[str]) -> None:
    """Check a run that read no rows of its own: its kind must be in DERIVED, and the training of
    its adapter audited, or that of a model; `_check_weights` asks for the others.
    """
    if kind_of(run) not in DERIVED:
        raise EvidenceError("it was trained on data that are not rows, so no audit read them")
    models = [key for key in run.report.values if key.startswith(MODEL_INPUT)]
    if any(_input_named(run, key) in ancestors for key in models):
        return
    if models:
        raise EvidenceError("no model that it was made from is an output of an audited run")
    adapter = _input_named(run, ADAPTER_INPUT)
    if adapter not in ancestors:
        raise EvidenceError(f"adapter {adapter[:200]!a} is not an output of an audited run")


def _check_weights(run: VerifiedRun, ancestors: Container[str]) -> None:
    """Check that an adapter from which training continues came from audited rows too.

    Otherwise one more step on harmless rows would be all that is audited. The base is exempt, or no
    training could pass. It is not exempt if its input holds another model that was merged;
    a model that was quantised or converted never is, since it is not called a base.
    """
    names = run.report.compute.weight_inputs
    if names is None:
        raise UndecidedError("the machine does not say which inputs held weights")
    base = _input_named(run, BASE_INPUT)
    if any(_input_named(run, key) == base for key in _others_merged(run)):
        # Another model in the base's input is none that may come from anywhere.
        base = ""
    for name in names:
        if name != base and name not in ancestors:
            raise EvidenceError(
                f"input {name[:200]!a} held weights that come neither from the base nor from an "
                "audited run"
            )


def _others_merged(run: VerifiedRun) -> list[str]:
    """Return the report's keys of the models that were merged, except for the base."""
    values = run.report.values
    base = values.get(BASE_INPUT)
    return [
        key
        for key, value in values.items()
        if key.startswith(MODEL_INPUT) and (base is None or value.data != base.data)
    ]


def _input_named(run: VerifiedRun, key: str) -> str:
    value = run.report.values.get(key)
    return "" if value is None else str(value.data).partition("/")[0]


def _unnamed(run: VerifiedRun, demand: AuditDemand) -> list[tuple[str, Digest]]:
    """Return the texts besides the rows that the policy does not name, so that an audit must read
    them.
    """
    return [(name, text) for name, text in run.report.texts if text not in demand.texts]


def _check_texts(run: VerifiedRun, demand: AuditDemand, audits: Sequence[Audit]) -> None:
    gaps = [
        (name, text)
        for name, text in _unnamed(run, demand)
        # An audit of a file that lists the texts beyond a report's limit read none of them.
        if name.startswith(MORE_TEXTS) or not _of_texts(demand, text, audits)
    ]
    if gaps:
        first = f"no audit covers {counted(len(gaps), 'text')} beside the rows"
        texts = ", ".join(f'"{text}"' for _, text in gaps[:_HINTED])
        hint = f"texts = [{texts}] in [[audit]], of those that you have read and find harmless"
        refused = _refused(audits)
        raise EvidenceError(
            "\n".join([first, *some([f"{name}  {text}" for name, text in gaps]), *refused]),
            # An audit that does not count may have read them: that is to be settled first.
            hint=None if refused else hint,
        )


def _hits(demand: AuditDemand, rows: Records, audits: Iterable[Audit]) -> list[_Hit]:
    """Return the checks of the demanded kind and column that read exactly these rows."""
    return [
        _Hit(audit=audit, check=check, counts=counts)
        for audit in audits
        for fact in (() if audit.results is None else audit.results.data)
        if (fact.digest, fact.rows.count, fact.bytes) == (rows.digest, rows.rows, rows.bytes)
        for check, counts in zip(_checks(audit), fact.checks, strict=True)
        if (check.kind, check.column) == (demand.kind, demand.column)
    ]


def _of_texts(
    demand: AuditDemand, text: Digest, audits: Iterable[Audit], lists: Collection[object] = ()
) -> list[int]:
    """Return for each check of the demanded kind that read this text: 1 if it matched, else 0.

    `lists`: use only checks with one of these lists; if empty, use all checks.
    """
    return [
        number
        for audit in audits
        for check in _checks(audit)
        if (check.kind, check.column) == (demand.kind, demand.column)
        and (not lists or (check.list and check.list.digest) in lists)
        for one, number in ([] if audit.results is None else audit.results.matches(check))
        if one.digest == text
    ]


def _checks(audit: Audit) -> tuple[CheckFact, ...]:
    return () if audit.results is None else audit.results.checks


def _with_list(demand: AuditDemand, hits: Iterable[_Hit]) -> list[_Hit]:
    return [one for one in hits if demand.list in (None, one.check.list and one.check.list.digest)]


def _total(demand: AuditDemand, run: VerifiedRun, audits: Sequence[Audit]) -> dict[str, int]:
    """Return the counts over all rows; if several audits read the same rows, the highest of each.

    A text besides the rows counts like a row.
    """
    records = run.report.records
    matches = missing = unparsable = unusable = 0
    lists = () if demand.list is None else {demand.list}
    for _, text in _unnamed(run, demand):
        matches += max(_of_texts(demand, text, audits, lists))
    for rows in records:
        hits = _with_list(demand, _hits(demand, rows, audits))
        matches += max(one.counts.matches for one in hits)
        missing += max(one.counts.missing for one in hits)
        unparsable += max(one.counts.unparsable for one in hits)
        entries = [one.check.list.unusable for one in hits if one.check.list is not None]
        unusable = max([unusable, *entries])
    unread = sum(rows.unread_bytes for rows in records)
    return dict(zip(_bounds(demand), (matches, missing, unparsable, unusable, unread), strict=True))


def _bounds(demand: AuditDemand) -> dict[str, int | None]:
    return {
        "matches": demand.at_most,
        "missing": demand.missing,
        "unparsable": demand.unparsable,
        "unusable entries of the list": demand.unusable,
        "bytes in no row": demand.unread_bytes,
    }


def _gap(demand: AuditDemand, run: str, rows: Records, audits: Sequence[Audit]) -> str:
    """Describe what was not audited, and which of the given audits do not count."""
    what = f"{rows.name} {rows.split} of run {run}"
    gap = f"{what} was not audited for {_what(demand)}\nrows      {rows.digest}"
    return "\n".join([gap, *_refused(audits)])


def _refused(audits: Iterable[Audit]) -> list[str]:
    return some([f"{name_of(one)} does not count: {one.refused}" for one in audits if one.refused])


def _what(demand: AuditDemand) -> str:
    return demand.kind if demand.column is None else f"{demand.kind} of column {demand.column}"


def name_of(audit: Audit) -> str:
    """Return the run's name, with its tier if that is known."""
    tier = "" if audit.verdict.tier is None else f" ({audit.verdict.tier})"
    return f"run {audit.verdict.run or 'unknown'}{tier}"


def some(lines: list[str]) -> list[str]:
    """Return the first few lines, and how many more there are."""
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]


# The judge of each check; it is called with what was verified before.
JUDGES: Final[Mapping[str, Callable[[Context], tuple[str, Any]]]] = {
    "audit.present": present,
    "audit.list": lists,
    "audit.result": result,
}
