"""Audits that a policy demands: cases that the attack tables do not show."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aicert.appraisal import appraise as module
from aicert.appraisal.appraise import for_audits
from aicert.appraisal.checks.context import Context
from aicert.appraisal.evidence import audits
from aicert.appraisal.evidence.audited import Audit
from aicert.appraisal.evidence.audits import JudgedAudits
from aicert.appraisal.policy import Claim
from aicert.appraisal.result import AttestationResult
from aicert.cli import table
from aicert.formats.digest import Digest
from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import Value
from tests.adversarial.attacks_audits import (
    DOMAINS,
    NONE,
    OTHER_ROWS,
    PATTERNS,
    ROWS,
    counted,
    given,
    looked,
    weights,
)
from tests.adversarial.attacks_merge import combine
from tests.adversarial.attacks_run import ancestor, input_code, reported, value
from tests.adversarial.forger import AT, Scene


def audited() -> Scene:
    scene = Scene("local", 2)
    given(looked)(scene)
    return scene


def appraised_with(scene: Scene, shared: JudgedAudits) -> AttestationResult:
    certificate, policy = scene.get("certificate"), scene.get("policy")
    return module.appraise(certificate, scene.get("model"), policy, at=scene.at, audits=shared)


def test_a_pass_says_what_its_audits_rest_on() -> None:
    scene = Scene("qemu", 2)
    root = Scene("local", 2).get("policy").roots
    given(looked)(scene)
    scene.edit(
        "policy", lambda policy: replace(policy, tier="software", roots=(*policy.roots, *root))
    )
    result = scene.appraise()
    assert result.check("audit.present").verdict == "ok"
    assert [text for text in result.trusts if text.startswith("for its audits: ")] == [
        (
            "for its audits: whoever ran the machine: they own the TPM, since it "
            "chains to root local platform CA"
        ),
        "for its audits: the software on that machine, which was not measured",
    ]
    assert "run look (software)" in result.check("audit.present").detail


def test_each_audit_is_judged_once_however_many_runs_and_checks_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene("local", 2)
    ancestor(weights("model"), version=2)(scene)
    given(looked, looked, demands=[DOMAINS, PATTERNS])(scene)
    judged: list[str] = []
    whole = audits.judged

    def counting(*words: object) -> Audit:
        judged.append("one")
        return whole(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(audits, "judged", counting)
    assert scene.appraise().verdict == "passed"
    assert judged == ["one", "one"]


def test_a_certificate_has_one_verdict_however_many_results_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two hundred certificates with the results of sixteen earlier audits each take 32 MB.

    Every second run in that folder asks for all of them.
    """
    scene = audited()
    scene.audits = list(scene.audits or ()) * 16
    asked: list[str] = []
    whole = module._appraise_alone

    def counting(*question: Any) -> AttestationResult:
        asked.append("one")
        return whole(*question)

    monkeypatch.setattr(module, "_appraise_alone", counting)
    assert scene.appraise().verdict == "passed"
    assert asked == ["one"]
    # Several appraisals can share the verdicts, each as often as the first.
    shared = module.judge_audits(scene.audits, scene.get("policy"), scene.at)
    assert [appraised_with(scene, shared).verdict for _ in range(3)] == ["passed"] * 3
    assert asked == ["one"] * 2


def test_verdicts_are_shared_only_under_one_policy_at_one_time() -> None:
    """Otherwise an audit that another policy accepts would count."""
    scene = audited()
    policy, audits = scene.get("policy"), scene.audits or ()
    lenient = replace(policy, allow=frozenset(("pickle",)))
    for shared in (
        module.judge_audits(audits, lenient, scene.at),
        module.judge_audits(audits, policy, scene.at + timedelta(seconds=1)),
    ):
        with pytest.raises(ValueError, match="under another policy or at another time"):
            appraised_with(scene, shared)


def test_none_is_judged_where_the_policy_demands_none() -> None:
    scene = audited()
    scene.audits = [(scene.get("certificate"), b"never read")]
    scene.edit("policy", lambda policy: replace(policy, audits=()))
    assert scene.appraise().check("audit.present").verdict == "not-applicable"


def test_what_is_asked_of_models_is_not_asked_of_audits() -> None:
    policy = replace(audited().get("policy"), claims=(Claim(name="steps", at_least=1),))
    assert (for_audits(policy).claims, for_audits(policy).audits) == ((), ())
    assert for_audits(policy).roots == policy.roots
    assert module.for_audits is for_audits


def test_an_audit_of_which_there_is_no_verdict_does_not_count() -> None:
    """The audit may have run code of an input, which the policy does not allow."""
    scene = Scene("local", 2)
    given(lambda: looked(None, input_code(allow_remote_code=True)))(scene)
    check = scene.appraise().check("audit.present")
    assert check.verdict == "failed"
    assert "does not count: the audit's certificate has no verdict: policy.claims" in check.detail


def test_a_text_that_an_audit_without_a_verdict_may_have_read_names_the_audit() -> None:
    """Somebody who reads "no audit covers 1 text" would look for a text, not for an image."""
    scene = Scene("local", 2)
    given(lambda: looked(None, input_code(allow_remote_code=True)))(scene)
    scene.edit(
        "policy",
        lambda policy: replace(
            policy, audits=tuple(replace(one, texts=frozenset()) for one in policy.audits)
        ),
    )
    check = scene.appraise().check("audit.present")
    first, _, last = check.detail.split("\n")
    assert first == "no audit covers 1 text beside the rows"
    assert "does not count: the audit's certificate has no verdict: policy.claims" in last
    assert check.hint is None


def test_many_gaps_are_counted() -> None:
    scene = audited()
    texts = tuple((f"text {n}", Digest("sha256", f"{n:064x}")) for n in range(8))
    reported(texts=texts)(scene)
    lines = scene.appraise().check("audit.present").detail.split("\n")
    assert lines[0] == "no audit covers 8 texts beside the rows"
    assert lines[1].startswith("text 0  sha256:")
    assert lines[-1] == "and 3 more"


def test_counts_of_all_rows_are_added() -> None:
    scene = Scene("local", 2)
    reported(records=(ROWS, replace(OTHER_ROWS, split="test")))(scene)
    both = [lambda: looked(counted(matches=2)), lambda: looked(counted(rows=OTHER_ROWS, matches=2))]
    given(*both, demands=[replace(PATTERNS, unread_bytes=24)])(scene)
    check = scene.appraise().check("audit.result")
    assert check.verdict == "failed"
    assert check.detail == "patterns/v1: matches 4, but policy test allows 3"
    given(*both, demands=[replace(PATTERNS, at_most=4, unread_bytes=24)])(scene)
    assert scene.appraise().verdict == "passed"


@pytest.mark.parametrize("what", ["missing", "unparsable"])
def test_what_was_not_read_of_all_rows_is_added(what: str) -> None:
    scene = Scene("local", 2)
    reported(records=(ROWS, replace(OTHER_ROWS, split="test")))(scene)
    counts = replace(NONE, missing=1, unparsable=1)
    both = [lambda: looked(counted(counts)), lambda: looked(counted(counts, rows=OTHER_ROWS))]
    asked = replace(DOMAINS, missing=2, unparsable=2, unread_bytes=24)
    given(*both, demands=[asked])(scene)
    assert scene.appraise().check("audit.result").verdict == "ok"
    fewer = replace(asked, missing=1) if what == "missing" else replace(asked, unparsable=1)
    given(*both, demands=[fewer])(scene)
    assert (
        scene.appraise()
        .check("audit.result")
        .detail.endswith(f"{what} 2, but policy test allows 1")
    )


def test_nothing_is_judged_before_the_run() -> None:
    scene = audited()
    context = Context(
        certificate=scene.get("certificate"), policy=scene.get("policy"), at=AT, then=AT
    )
    with pytest.raises(ValueError, match="before their run"):
        audits.JUDGES["audit.present"](context)


def test_of_what_code_of_inputs_did_no_audit_says_anything() -> None:
    scene = audited()
    input_code(allow_remote_code=True)(scene)
    scene.edit("policy", lambda policy: replace(policy, allow=frozenset(("remote-code",))))
    check = scene.appraise().check("audit.present")
    assert (check.verdict, check.detail) == (
        "not-checked",
        "the machine does not say which inputs held weights",
    )


def of_a_cloud() -> Scene:
    """Return a training in a cloud, an audit on another machine, and a policy that accepts both."""
    scene = Scene("cloud", 2)
    given(looked)(scene)
    roots = Scene("local", 2).get("policy").roots
    scene.edit(
        "policy", lambda policy: replace(policy, tier="software", roots=(*policy.roots, *roots))
    )
    return scene


def test_audits_of_a_lower_tier_are_named_in_the_verdict() -> None:
    result = of_a_cloud().appraise()
    assert (result.verdict, result.tier, result.audits_tier) == ("passed", "vtpm", "software")
    text, as_json = table.text(result), json.loads(table.json_text(result))
    assert "PASSED    (vtpm, its audits software: the operator could have forged this)" in text
    assert (as_json["tier"], as_json["auditsTier"]) == ("vtpm", "software")
    assert audited().appraise().audits_tier == "software"
    assert "PASSED    (software: the operator could have forged this)" in table.text(
        audited().appraise()
    )
    assert Scene("local", 2).appraise().audits_tier is None


def test_a_lineage_is_as_low_as_its_audits() -> None:
    scene = of_a_cloud()
    older = of_a_cloud()
    older.edit("lockfile", lambda locked: replace(locked, run="base"))
    digest = older.get("statement").outputs["model"].digest

    def from_run(locked: Lockfile) -> Lockfile:
        *others, last = locked.inputs
        source = "run:base/model"
        return replace(
            locked, inputs=(*others, replace(last, source=source, uri=source, digest=digest))
        )

    scene.edit("lockfile", from_run)
    scene.edit("outputs", lambda given: {"model": given["model"] | {"model.safetensors": b"more"}})
    scene.ancestors = [older.get("certificate")]
    result = scene.appraise()
    assert (result.verdict, result.lineage_tier) == ("passed", "software")
    words = "(vtpm, its lineage software, its audits software: the operator could have forged this)"
    assert f"PASSED    {words}" in table.text(result)


@pytest.mark.parametrize(
    ("model", "verdict"), [("alpaca/sub", "ok"), ("alpaca", "failed"), ("alpaca/more", "failed")]
)
def test_a_model_beside_the_base_in_its_input_is_not_the_base(model: str, verdict: str) -> None:
    scene = Scene("local", 2)
    combine(ancestor(weights("model"), version=2))(scene)
    given(looked)(scene)
    weights("alpaca", "model", base="alpaca/sub")(scene)
    value("modelInput3", Value("measured", model))(scene)
    check = scene.appraise().check("audit.present")
    assert check.verdict == verdict
    assert ("input 'alpaca' held weights that come neither" in check.detail) == (verdict != "ok")
