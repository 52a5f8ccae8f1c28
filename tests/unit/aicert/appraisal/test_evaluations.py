"""Evaluations that a policy demands: cases that the attack tables do not show."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from aicert.appraisal.appraise import for_audits
from aicert.appraisal.checks.context import Context
from aicert.appraisal.evidence import evaluations
from aicert.cli import table
from aicert.formats import evaluation
from aicert.formats.digest import of_bytes
from tests.adversarial.attacks_audits import looked
from tests.adversarial.attacks_evaluations import (
    LOSS,
    OTHER,
    OTHER_ROWS,
    TASK,
    an_audit,
    audited_too,
    evaluated,
    given,
    measured,
)
from tests.adversarial.attacks_run import reported
from tests.adversarial.forger import AT, Scene
from tests.unit.aicert.cli.verify.test_task_evaluations import tasks_of


def demanded(*evidence: object, kind: str = "local") -> Scene:
    scene = Scene(kind, 2)
    given(*evidence)(scene)  # type: ignore[arg-type]
    return scene


def test_a_task_is_its_config_and_its_rows_in_order() -> None:
    results = measured()
    (read,) = results.data
    config, rows = "sha256:" + "d1" * 32, "sha256:" + "c3" * 32
    assert (str(results.config), str(read.digest)) == (config, rows)
    assert of_bytes(f'{{"config":"{config}","rows":["{rows}"]}}'.encode()) == TASK
    two = replace(results, data=(*results.data, *evaluation.reads([OTHER_ROWS])))
    assert evaluations.task_of(two) != evaluations.task_of(replace(two, data=two.data[::-1]))
    # The model and what was measured of it are no part of the task.
    other = measured(loss=1.0, base=replace(results.base, digest=OTHER))
    assert evaluations.task_of(other) == TASK


def test_each_reason_is_named_and_no_more_than_five() -> None:
    scene = demanded(
        lambda: evaluated(None, reported(exit_code="1")),
        lambda: evaluated(rows=OTHER_ROWS),
        lambda: evaluated(
            measured(base=replace(measured().base, digest=OTHER)), inputs={"model": OTHER}
        ),
    )
    gap, *reasons = scene.appraise().check("evaluation.present").detail.split("\n")
    assert gap == f"output model was not evaluated: no loss of task {TASK}"
    other = evaluations.task_of(measured(OTHER_ROWS))
    assert reasons == [
        (
            "run look (software) does not count: the evaluation's certificate fails: "
            "outputs.exit: the run failed: it ended with 1"
        ),
        f"run look (software) measured loss of task {other}",
        f"run look (software) evaluated other weights: {OTHER}",
    ]
    scene = demanded(*[lambda: evaluated(rows=OTHER_ROWS)] * 7)
    detail = scene.appraise().check("evaluation.present").detail
    assert detail.count("measured") == 5
    assert detail.endswith("\nand 2 more")


def test_an_evaluation_of_which_there_is_no_verdict_does_not_count() -> None:
    """Nothing shows how old it is, which the policy asks for."""
    scene = demanded(evaluated)
    scene.edit("policy", lambda policy: replace(policy, max_age_days=30))
    scene.caller_nonce = scene.get("nonce")
    detail = scene.appraise().check("evaluation.present").detail
    assert "the evaluation's certificate has no verdict: policy.age" in detail


def test_the_messages_about_audits_and_evaluations_do_not_name_each_other() -> None:
    scene = Scene("local", 2)
    audited_too(scene)
    scene.audits = [evaluated(None, reported(exit_code="1")), looked(None, reported(exit_code="1"))]
    result = scene.appraise()
    assert "evaluation" not in result.check("audit.present").detail
    assert "audit" not in result.check("evaluation.present").detail
    assert "the audit's certificate fails" in result.check("audit.present").detail


def test_a_certificate_whose_lockfile_cannot_be_read_is_no_evaluation() -> None:
    certificate, data = evaluated()
    scene = demanded(lambda: (replace(certificate, lockfile=b"?"), data))
    check = scene.appraise().check("evaluation.present")
    assert (check.verdict, "\n" in check.detail) == ("failed", False)


def test_what_is_demanded_of_models_is_not_demanded_of_evaluations() -> None:
    assert for_audits(demanded().get("policy")).evaluations == ()


def test_none_is_judged_where_the_policy_demands_none() -> None:
    scene = demanded(an_audit)
    scene.edit("policy", lambda policy: replace(policy, evaluations=()))
    result = scene.appraise()
    assert result.check("evaluation.present").detail == "policy test demands no evaluation"
    assert result.check("evaluation.result").verdict == "not-applicable"
    assert result.evaluations_tier is None


def test_a_pass_says_what_its_evaluations_rest_on() -> None:
    scene = demanded(evaluated, kind="cloud")
    roots = Scene("local", 2).get("policy").roots
    scene.edit(
        "policy", lambda policy: replace(policy, tier="software", roots=(*policy.roots, *roots))
    )
    result = scene.appraise()
    assert (result.verdict, result.tier, result.evaluations_tier) == ("passed", "vtpm", "software")
    assert [text for text in result.trusts if text.startswith("for its evaluations: ")] == [
        (
            "for its evaluations: whoever ran the machine: they own the TPM, since it "
            "chains to root local platform CA"
        ),
        "for its evaluations: the software on that machine, which was not measured",
    ]
    words = "PASSED    (vtpm, its evaluations software: the operator could have forged this)"
    assert words in table.text(result)
    assert json.loads(table.json_text(result))["evaluationsTier"] == "software"


def test_the_result_says_each_number() -> None:
    check = demanded(evaluated).appraise().check("evaluation.result")
    assert check.detail == "loss by run look (software): 2.25, of 58 samples"
    scene = demanded(evaluated)
    scene.edit(
        "policy", lambda policy: replace(policy, evaluations=(replace(LOSS, template_tokens=None),))
    )
    check = scene.appraise().check("evaluation.result")
    words = "90 tokens from templates, without a bound"
    assert (check.verdict, words in check.detail) == ("not-checked", True)
    assert check.hint == "template-tokens = 90 in [[evaluation]], if so many are harmless"


def test_an_evaluation_judged_before_its_run_is_an_error() -> None:
    scene = demanded(evaluated)
    context = Context(
        certificate=scene.get("certificate"), policy=scene.get("policy"), at=AT,
        then=AT + timedelta(0),
    )  # fmt: skip
    with pytest.raises(ValueError, match="before their run is verified"):
        evaluations.present(context)


def test_metrics_of_tasks_are_demanded_by_their_own_digests() -> None:
    results = tasks_of(OTHER)
    (first, *_) = evaluations.measures(results)
    assert first == evaluations.Measure(
        task=results.tasks[0].digest, metric="acc", value=0.6, samples=results.tasks[0].samples,
        template_tokens=0,
    )  # fmt: skip
    assert len(evaluations.measures(results)) == 2 * len(results.tasks)
