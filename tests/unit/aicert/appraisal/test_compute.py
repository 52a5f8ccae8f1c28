"""The limit on a run's compute: what it consists of, what it decides, and when it is unknown."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from aicert.appraisal.checks.context import Context
from aicert.appraisal.evidence import ceiling, compute
from aicert.appraisal.evidence.accepted import CAPS, Caps, ComputeDemand
from aicert.appraisal.result import AttestationResult, CheckResult
from aicert.formats.run_report import Value
from aicert.trust.policy_file import load_policy
from tests.adversarial.attacks_compute import a_merge, bounds, counted_units, on_a_counted_base
from tests.adversarial.attacks_run import ancestor, value
from tests.adversarial.ca_forge import AT
from tests.adversarial.forger import Scene

Change = Callable[[Scene], object]
# The compute of one scene: 0.75 s on 4 processors, with the built-in rates.
OWN = 0.75 * 1.2 * 4e13
ROOT = Path(__file__).resolve().parents[4]
REVIEWED = date(2026, 11, 28)


def appraised(*changes: Change, version: int = 2) -> AttestationResult:
    scene = Scene("local", version)
    for change in changes:
        change(scene)
    return scene.appraise()


def decided(*changes: Change, check: str = "policy.compute", version: int = 2) -> CheckResult:
    return appraised(*changes, version=version).check(check)


def test_the_ceiling_is_time_and_slack_and_units_and_caps() -> None:
    result = appraised(counted_units(accelerators=2), bounds(1e23))
    assert result.verdict == "passed"
    assert result.compute is not None
    assert result.compute.ceiling == 0.75 * 1.2 * (4 * 1e13 + 2 * 2e16)
    assert result.check("policy.compute").detail == (
        "run tiny: at most 3.604e+16 FLOP (derived), of 1e+23 that the policy allows\n"
        "run tiny: 0.750 s x 1.2 x (4 processors x 1e+13 + 2 accelerators x 2e+16 FLOP/s)\n"
        "the trainer itself counts 1.5e+12 FLOP (self-reported)"
    )


def test_the_slack_is_more_than_a_clock_can_be_slow() -> None:
    # The reference code's nominal rate, and how far it can be adjusted.
    assert ceiling.SLACK > (30000 + 5000) / 30000


def test_caps_of_the_policy_count() -> None:
    caps = Caps(processor=1e12, accelerator=1e15, reviewed=REVIEWED)
    result = appraised(counted_units(accelerators=1), bounds(1e20, caps=caps))
    assert result.compute is not None
    assert result.compute.ceiling == 0.75 * 1.2 * (4 * 1e12 + 1e15)


def test_a_bound_holds_to_the_last_bit() -> None:
    assert decided(counted_units(), bounds(OWN)).verdict == "ok"
    refused = decided(counted_units(), bounds(OWN * (1 - 1e-15)))
    assert refused.verdict == "failed"
    assert refused.detail.splitlines() == [
        "the policy allows 3.6e+13 FLOP, and nothing shows that it was no more",
        "run tiny: at most 3.6e+13 FLOP (derived)",
        "run tiny  0.750 s x 1.2 x (4 processors x 1e+13 + 0 accelerators x 2e+16 FLOP/s)",
    ]


@pytest.mark.parametrize("key", ["processorCount", "acceleratorCount"])
@pytest.mark.parametrize("new", [None, Value("self-reported", 4), Value("measured", 0.5)])
def test_what_the_machine_did_not_count_is_unknown(key: str, new: Value | None) -> None:
    result = appraised(counted_units(), value(key, new), bounds(1e25))
    check = result.check("policy.compute")
    assert (result.verdict, check.verdict) == ("none", "not-checked")
    assert check.detail == (
        "the compute of run tiny is unknown: its machine did not count processors and accelerators"
    )


def test_a_certificate_of_version_1_attests_no_time() -> None:
    check = decided(counted_units(), bounds(1e25), version=1)
    assert check.verdict == "not-checked"
    assert check.detail.endswith("its TPM does not attest how long it took")
    trained = decided(counted_units(flops=1e30), check="outputs.trained", version=1)
    assert trained.verdict == "ok"


def test_who_does_not_ask_is_not_answered() -> None:
    check = decided(counted_units())
    assert (check.verdict, check.detail) == ("not-applicable", "policy test bounds no compute")


@pytest.mark.parametrize(("days", "verdict"), [(365, "ok"), (366, "not-checked")])
def test_caps_are_reviewed_each_year(days: int, verdict: str) -> None:
    reviewed = date.fromordinal(AT.date().toordinal() - days)
    old = Caps(processor=1e13, accelerator=2e16, reviewed=reviewed)
    check = decided(counted_units(), bounds(1e20, caps=old))
    assert check.verdict == verdict
    trained = decided(counted_units(flops=1e30), bounds(1e20, caps=old), check="outputs.trained")
    assert trained.verdict == ("failed" if days == 365 else "ok")
    if days == 366:
        assert f"the limits on hardware speed were reviewed on {reviewed}" in check.detail
        assert "1e+30 FLOP (self-reported), not compared: the limits on hardware" in trained.detail


def test_a_trainer_that_counts_more_than_its_machine_can_do_is_refused() -> None:
    assert decided(counted_units(flops=OWN), check="outputs.trained").verdict == "ok"
    refused = decided(counted_units(flops=OWN * 1.001), check="outputs.trained")
    assert refused.verdict == "failed"
    assert refused.detail.splitlines() == [
        "the trainer counts more than its machine can have computed",
        "reported  3.604e+13 FLOP",
        (
            "at most   3.6e+13 FLOP: 0.750 s x 1.2 x (4 processors x 1e+13 + "
            "0 accelerators x 2e+16 FLOP/s)"
        ),
    ]


def test_a_trainer_that_counts_nothing_is_not_compared() -> None:
    own = decided(counted_units(flops=None), bounds(1e20))
    assert own.detail.endswith("\nthe trainer itself counts no FLOP")
    trained = decided(counted_units(flops=None), check="outputs.trained")
    assert (trained.verdict, "FLOP" in trained.detail) == ("ok", False)


def test_the_sum_is_that_of_the_runs_that_made_the_weights() -> None:
    result = appraised(on_a_counted_base(), bounds(OWN * 2, lineage=True))
    assert result.verdict == "passed"
    assert result.check("policy.compute").detail.splitlines()[0] == (
        "run tiny and 1 run that made its weights: at most 7.2e+13 FLOP (derived), "
        "of 7.2e+13 that the policy allows"
    )
    above = appraised(on_a_counted_base(), bounds(OWN * 1.9, lineage=True))
    assert [check.id for check in above.failed] == ["policy.compute"]
    # The bound on this run alone.
    assert appraised(on_a_counted_base(), bounds(OWN * 1.9)).verdict == "passed"


def test_one_run_that_made_two_inputs_counts_once() -> None:
    result = appraised(on_a_counted_base(twice=True), bounds(OWN * 2, lineage=True))
    assert result.check("policy.compute").verdict == "ok"


def test_a_base_without_certificate_is_unknown() -> None:
    check = decided(counted_units(weights="model"), bounds(1e25, lineage=True))
    assert check.verdict == "not-checked"
    assert check.detail == (
        "how the weights in input 'model' of run tiny were made is unknown: no certificate shows it"
    )
    assert check.hint is not None
    assert check.hint.startswith("--lineage CERT")


def test_an_ancestor_without_counts_is_unknown() -> None:
    change = ancestor(lambda older: None)
    check = decided(change, counted_units(weights="model"), bounds(1e25, lineage=True))
    assert (check.verdict, check.detail) == (
        "not-checked",
        "the machine of run base counted no processors",
    )


def test_an_ancestor_on_an_unknown_base_is_unknown() -> None:
    result = appraised(on_a_counted_base(weights="model"), bounds(1e25, lineage=True))
    assert [check.id for check in result.undecided] == ["policy.compute"]
    assert "input 'model' of run base" in result.check("policy.compute").detail


def test_inputs_whose_weights_are_not_named_are_unknown() -> None:
    check = decided(counted_units(weights=None), bounds(1e25, lineage=True))
    assert check.detail == "run tiny does not say which of its inputs hold weights"
    assert decided(counted_units(weights=None), bounds(1e25)).verdict == "ok"


def test_a_lineage_that_was_not_asked_for_is_unknown() -> None:
    scene = Scene("local", 2)
    on_a_counted_base()(scene)
    bounds(1e25, lineage=True)(scene)
    scene.ancestors = None
    assert scene.appraise().check("policy.compute").verdict == "not-checked"


def test_the_built_in_caps_are_those_that_were_reviewed() -> None:
    assert Caps(processor=1e13, accelerator=2e16, reviewed=REVIEWED) == CAPS
    assert ComputeDemand(at_most=1.0).caps is CAPS


def test_it_is_judged_only_where_the_policy_asks() -> None:
    scene = Scene("local", 2)
    now = datetime(2026, 11, 28, tzinfo=UTC)
    context = Context(
        certificate=scene.get("certificate"), policy=scene.get("policy"), at=now, then=now
    )
    with pytest.raises(ValueError, match=r"^policy\.compute needs a verified run"):
        compute.bounded(context)


def test_the_page_states_the_built_in_caps_and_the_slack(tmp_path: Path) -> None:
    page = (ROOT / "docs/spec/compute.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "p.toml"
    path.write_text(f'extends = "default"\n{example}')
    assert load_policy(str(path)).compute == ComputeDemand(at_most=3.3e22, lineage=True)
    assert f"attestedSeconds × {ceiling.SLACK} × (processorCount" in page


def test_a_merge_counts_with_the_run_that_made_its_adapter() -> None:
    check = decided(a_merge(on_a_counted_base()), bounds(2 * OWN))
    assert (check.verdict, check.detail.partition(",")[0]) == (
        "ok",
        f"run tiny and the run that made its adapter: at most {2 * OWN:.4g} FLOP (derived)",
    )
    assert decided(a_merge(on_a_counted_base()), bounds(1.9 * OWN)).verdict == "failed"


@pytest.mark.parametrize("named", [None, Value("measured", "alpaca/adapter")])
def test_a_merge_of_an_adapter_of_no_certificate_is_unknown(named: Value | None) -> None:
    check = decided(a_merge(on_a_counted_base()), value("adapterInput", named), bounds(1e25))
    assert check.verdict == "not-checked"
    assert "of run tiny were made is unknown: no certificate shows it" in check.detail
    assert check.hint == "--lineage CERT of that run"


def test_a_merge_of_an_adapter_of_a_machine_that_did_not_count_is_unknown() -> None:
    check = decided(a_merge(ancestor(lambda _: None, version=2)), bounds(1e25))
    assert (check.verdict, check.detail) == (
        "not-checked",
        "the machine of run base counted no processors",
    )
