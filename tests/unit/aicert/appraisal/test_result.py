from collections.abc import Mapping
from types import MappingProxyType

import pytest

from aicert.appraisal.result import (
    CHECKS,
    CHIP_CHECKS,
    GPU_CHECK,
    KIND_CHECKS,
    OPTIONAL,
    TIERS,
    VERSION_2_CHECKS,
    AttestationResult,
    CheckResult,
    CheckVerdict,
    below_vtpm,
    has_gpus,
    is_confidential,
    shown_by,
)


def result(verdicts: Mapping[str, CheckVerdict] = MappingProxyType({})) -> AttestationResult:
    """Return a result in which all checks are ok except those given."""
    checks = tuple(
        CheckResult(id=check, verdict=verdicts.get(check, "ok"), detail="d") for check in CHECKS
    )
    return AttestationResult(
        checks=checks, policy="p", tier="vtpm", run="r", subject={}, lockfile=None,
        finished=None, at="", quoted={}, trusts=(), omits=(),
    )  # fmt: skip


def test_all_ok_passes() -> None:
    assert (result().verdict, result().exit_code) == ("passed", 0)


def test_a_result_has_no_truth_value() -> None:
    with pytest.raises(
        TypeError, match=r"^an AttestationResult is neither true nor false: compare its verdict$"
    ):
        bool(result())


@pytest.mark.parametrize("check", CHECKS)
def test_any_failure_fails(check: str) -> None:
    assert result({check: "failed"}).exit_code == 1


@pytest.mark.parametrize("check", CHECKS)
def test_what_was_not_checked_prevents_a_pass(check: str) -> None:
    assert result({check: "not-checked"}).exit_code == (0 if check in OPTIONAL else 2)


@pytest.mark.parametrize("check", CHECKS)
def test_only_some_checks_may_not_apply(check: str) -> None:
    may = check.startswith(
        ("boot.", "policy.", "lineage.", "time.", "log.", "audit.", "evaluation.")
    )
    may = may or check in (*CHIP_CHECKS, GPU_CHECK, *VERSION_2_CHECKS, *KIND_CHECKS)
    assert result({check: "not-applicable"}).exit_code == (0 if may else 2)


def test_a_run_shows_what_its_kind_does() -> None:
    assert result(dict.fromkeys(KIND_CHECKS, "not-applicable")).exit_code == 2


def test_consistent_is_all_but_the_model() -> None:
    assert result({"subject.files": "not-checked"}).certificate_consistent == "yes"
    assert result({"subject.files": "failed"}).certificate_consistent == "no"
    assert result({"outputs.exit": "not-checked"}).certificate_consistent == "no"


def test_a_check_left_out_is_no_verdict() -> None:
    whole = result()
    short = AttestationResult(
        checks=whole.checks[1:], policy="p", tier=None, run=None, subject=None, lockfile=None,
        finished=None, at="", quoted={}, trusts=(), omits=(),
    )  # fmt: skip
    assert short.verdict == "none"


def test_failed_undecided_and_by_id() -> None:
    both = result(
        {"quote.nonce": "failed", "subject.files": "not-checked", "inputs.lockfile": "not-checked"}
    )
    assert [check.id for check in both.failed] == ["quote.nonce"]
    assert [check.id for check in both.undecided] == ["subject.files"]
    assert both.check("quote.nonce").verdict == "failed"


def test_tiers_above_a_cloud() -> None:
    assert [tier for tier in TIERS if is_confidential(tier)] == ["confidential", "confidential-gpu"]


def test_what_shows_a_tier() -> None:
    assert [tier for tier in TIERS if has_gpus(tier)] == ["confidential-gpu"]
    assert [len(shown_by(tier)) for tier in TIERS] == [0, 0, 0, 3, 4]


def test_tiers_below_a_cloud() -> None:
    assert [tier for tier in TIERS if below_vtpm(tier)] == ["software", "measured-vm"]
