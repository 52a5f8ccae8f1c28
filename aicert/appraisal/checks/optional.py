"""Appraise the optional checks, which a policy may ask for: each is a row of a table.

A check is `not-applicable` if the policy does not ask for it. The module that judges its kind of
evidence is imported only if the policy asks for it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from aicert.appraisal.checklist import Checklist, NotApplicableError
from aicert.appraisal.checks.context import Context
from aicert.appraisal.policy import Policy
from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One check that a policy may ask for.

    `asks`: whether a policy asks for the check. `lacks`: the words for a policy that does not.
    `needs`: the checks that must be ok before `judge` is called. `judge`: decides the check; it
    returns the same as `work` of `Checklist.step`.
    """

    asks: Callable[[Policy], object]
    lacks: str
    judge: Callable[[Context], tuple[str, Any]]
    needs: tuple[str, ...] = ()


def _times(policy: Policy) -> object:
    return policy.time_authorities or "time" in policy.require


def _earlier(policy: Policy) -> object:
    return _times(policy) or policy.witnesses


def _logs(policy: Policy) -> object:
    return policy.logs or "log" in policy.require


def _token(context: Context) -> tuple[str, Any]:
    from aicert.appraisal.evidence import trusted_time

    return trusted_time.existed(context.certificate, context.policy, context.at)


def _not_before(context: Context) -> tuple[str, Any]:
    from aicert.appraisal.evidence import trusted_time

    return trusted_time.began(context.certificate, context.policy, context.at)


def _compute(context: Context) -> tuple[str, Any]:
    from aicert.appraisal.evidence import compute

    return compute.bounded(context)


def _audit(check: str, *needs: str) -> Row:
    def judge(context: Context) -> tuple[str, Any]:
        from aicert.appraisal.evidence import audits

        return audits.JUDGES[check](context)

    lacks = "demands no audit"
    return Row(asks=lambda policy: policy.audits, lacks=lacks, judge=judge, needs=needs)


def _evaluation(check: str, *needs: str) -> Row:
    def judge(context: Context) -> tuple[str, Any]:
        from aicert.appraisal.evidence import evaluations

        return evaluations.JUDGES[check](context)

    lacks = "demands no evaluation"
    return Row(asks=lambda policy: policy.evaluations, lacks=lacks, judge=judge, needs=needs)


_SHOWN = ("statement.form", "outputs.pcr8")
_READ = (*_SHOWN, "inputs.records", "lineage.ancestors")


def _included(context: Context) -> tuple[str, Any]:
    from aicert.appraisal.evidence import tlog

    return tlog.included(context.certificate, context.policy)


def _witnessed(context: Context) -> tuple[str, Any]:
    from aicert.appraisal.evidence import tlog

    return tlog.witnessed(context.certificate, context.policy, context.at)


_NO_TIME, _NO_LOG = "names no time authority", "names no log"
ROWS: Mapping[str, Row] = {
    "time.token": Row(asks=_times, lacks=_NO_TIME, judge=_token),
    "log.included": Row(asks=_logs, lacks=_NO_LOG, judge=_included),
    "log.witnessed": Row(asks=_logs, lacks=_NO_LOG, judge=_witnessed, needs=("log.included",)),
    "time.not-before": Row(
        asks=_earlier, lacks=_NO_TIME, judge=_not_before, needs=("runkey.certified",)
    ),
    "policy.compute": Row(
        asks=lambda policy: policy.compute, lacks="bounds no compute", judge=_compute, needs=_SHOWN
    ),
    "audit.present": _audit("audit.present", *_READ),
    "audit.list": _audit("audit.list", "audit.present"),
    "audit.result": _audit("audit.result", "audit.present", "audit.list"),
    "evaluation.present": _evaluation("evaluation.present", *_SHOWN),
    "evaluation.result": _evaluation("evaluation.result", "evaluation.present"),
}


def appraise_optional(checklist: Checklist, check: str, context: Context) -> Any:
    """Decide a check of `result.OPTIONAL_CHECKS`; return what it verified, None unless it is ok."""
    row = ROWS[check]
    if row.asks(context.policy):
        return checklist.step(check, row.judge, context, *row.needs)
    return checklist.step(check, _not_asked, f"policy {context.policy.name} {row.lacks}")


def _not_asked(reason: str) -> tuple[str, None]:
    raise NotApplicableError(reason)
