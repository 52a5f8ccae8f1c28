"""The second verifier on audits and evaluations that a policy demands of a run (audit.md and
evaluation.md, "Demanded by a policy"). A run is an `Appraisal` of verifier.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tests.second import audits, evaluations
from tests.second.chain import NoError, OpenError
from tests.second.checks import CHECKS, NotAskedError

# What a policy demands of models, and of nothing that comes beside one.
OF_MODELS = ("audit", "claim", "evaluation")
# Runs that make results.
EVALUATE = ("axolotl-evaluate", "lm-eval")
OF_RESULTS = ("audit", *EVALUATE)


def _beside(run: Any, certificate: bytes) -> Any:
    """Return the appraisal of a certificate that came with results, None unless it is
    consistent.
    """
    own = {key: value for key, value in run.asked.policy.items() if key not in OF_MODELS}
    question = replace(
        run.asked, certificate=certificate, policy=own, model=None, lockfile=None, nonce=None,
        ancestors=None, audits=None,
    )  # fmt: skip
    try:
        other = type(run)(question)
    except NoError:
        return None
    return other if other.consistent() and other.lock else None


def _inputs(run: Any) -> dict[str, str]:
    return {name: digest for name, _, _, digest in run.lock.inputs}


def _check_asked(run: Any) -> None:
    if run.lock and run.lock.trainer in OF_RESULTS:
        raise NotAskedError
    if run.asked.audits is None:
        raise OpenError


def decide_audits(run: Any) -> None:
    demands, decide = run.asked.policy.get("audit", ()), run.decide
    if not demands:
        run.verdicts |= {one: "not-applicable" for one in CHECKS if one.startswith("audit.")}
        return
    lineage = run.verdicts["lineage.ancestors"]
    needs: tuple[str, ...] = ("statement.form", "outputs.pcr8")
    needs += () if lineage == "not-applicable" else ("lineage.ancestors",)
    needs += () if run.verdicts["inputs.records"] == "not-applicable" else ("inputs.records",)
    decide("audit.present", partial(_audited, run), *needs)
    own, with_list = run.verdicts["audit.present"], [one for one in demands if "list" in one]
    if own == "not-applicable" or (own == "ok" and not with_list):
        run.verdicts["audit.list"] = "not-applicable"
    else:
        decide(
            "audit.list",
            lambda: audits.check_lists(with_list, run.statement.report, run.audits),
            "audit.present",
        )
    if own == "not-applicable":
        run.verdicts["audit.result"] = own
        return
    needs = () if run.verdicts["audit.list"] == "not-applicable" else ("audit.list",)
    decide(
        "audit.result",
        lambda: audits.check_results(demands, run.statement.report, run.audits),
        "audit.present",
        *needs,
    )


def _audited(run: Any) -> None:
    report, lock = run.statement.report, run.lock
    if report["version"] == 1 and not (lock and lock.trainer in OF_RESULTS):
        raise OpenError
    _check_asked(run)
    if lock:
        audits.check_read(report, lock.trainer, lock.inputs, bool(lock.code))
    run.audits = [one for given in run.asked.audits if (one := _audit(run, *given)) is not None]
    audits.check_present(run.asked.policy["audit"], report, run.audits)


def _audit(run: Any, certificate: bytes, results: bytes) -> Mapping[str, Any] | None:
    other = _beside(run, certificate)
    if other is None:
        return None
    report, outputs, inputs = other.statement.report, other.statement.digests, _inputs(other)
    if other.lock.trainer != "audit":
        outputs, inputs = audits.before(results, report, other.lock.trainer, inputs)
    return audits.counted(results, outputs, report["records"]["value"], inputs)


def decide_evaluations(run: Any) -> None:
    if not run.asked.policy.get("evaluation"):
        run.verdicts |= {one: "not-applicable" for one in CHECKS if one.startswith("evaluation.")}
        return
    run.decide("evaluation.present", partial(_evaluated, run), "statement.form", "outputs.pcr8")
    if run.verdicts["evaluation.present"] == "not-applicable":
        run.verdicts["evaluation.result"] = "not-applicable"
        return
    run.decide(
        "evaluation.result",
        lambda: evaluations.check_results(run.measured),
        "evaluation.present",
    )


def _evaluated(run: Any) -> None:
    _check_asked(run)
    counting = [one for given in run.asked.audits if (one := _evaluation(run, *given)) is not None]
    run.measured = evaluations.measured(
        run.asked.policy["evaluation"],
        list(run.statement.digests.values()),
        counting,
        run.statement.report,
        _inputs(run),
    )


def _evaluation(run: Any, certificate: bytes, results: bytes) -> Mapping[str, Any] | None:
    other = _beside(run, certificate)
    if other is None or other.lock.trainer not in EVALUATE:
        return None
    statement = other.statement
    return evaluations.counted(
        results, statement.digests, statement.report, _inputs(other), other.lock.trainer
    )
