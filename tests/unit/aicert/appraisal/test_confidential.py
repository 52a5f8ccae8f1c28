"""Messages where nothing is decided; tests/adversarial/words.txt has the words of refusals."""

import time
from dataclasses import replace
from typing import Any

import pytest

from aicert.appraisal.evidence.accepted import IdKeySigner
from tests.adversarial import chip_forge, nvidia_forge
from tests.adversarial.ca_forge import ec_key
from tests.adversarial.forger import Scene


def verdict_and_detail(check: str, scene: Scene, **policy: Any) -> tuple[str, str]:
    scene.edit("policy", lambda given: replace(given, **policy))
    appraised = scene.appraise().check(check)
    return appraised.verdict, appraised.detail


def test_what_is_missing_is_named() -> None:
    confidential = "confidential"
    assert verdict_and_detail("platform.chip", Scene(confidential), chips=()) == (
        "not-checked",
        "policy test names no maker of processors",
    )
    assert verdict_and_detail("platform.chip", Scene(confidential).put("platform", None)) == (
        "not-checked",
        "the certificate carries no report from a confidential machine",
    )
    verdict, detail = verdict_and_detail("platform.chip", Scene(confidential).put("vcek", None))
    assert verdict == "not-checked"
    assert detail.startswith("the certificate lacks the processor's own certificate (VCEK)")
    assert verdict_and_detail("platform.guest", Scene(confidential), id_key_signers=()) == (
        "not-checked",
        "policy test names nobody who may start guests",
    )


def test_all_that_are_accepted_are_named() -> None:
    other = IdKeySigner(name="other", id_key=bytes(48), minimum_svn=3)
    newer = replace(chip_forge.PARAVISOR, minimum_svn=chip_forge.SVN + 1)
    verdict, detail = verdict_and_detail(
        "platform.guest", Scene("confidential"), id_key_signers=(newer, other)
    )
    assert verdict == "failed"
    assert detail.split("\n")[0] == (
        "the guest was not started by anyone accepted on test chips: "
        "test paravisor (SVN 10 or newer), other (SVN 3 or newer)"
    )


@pytest.mark.parametrize("unproven", [("platform", None), ("vcek", None), ("hcl", b"")])
def test_a_tier_that_is_not_shown_is_not_said(unproven: tuple[str, Any]) -> None:
    result = Scene("confidential").put(*unproven).appraise()
    assert (result.tier, result.trusts) == (None, ())
    assert result.check("platform.tier").verdict == "not-checked"
    assert result.verdict != "passed"


def test_who_may_start_guests_is_asked_last() -> None:
    debugged = Scene("confidential").edit("guest", lambda g: g | {"policy": 0x3001F | 1 << 19})
    assert verdict_and_detail("platform.guest", debugged, id_key_signers=())[0] == "failed"


def with_four_gpus() -> Scene:
    keys = (ec_key(f"nvidia device {index}", "P-384") for index in range(4))
    return Scene("gpu").put("devices", [nvidia_forge.device(key=key) for key in keys])


@pytest.mark.parametrize(
    ("scene", "seconds"),
    [
        (Scene("confidential"), 0.02),
        (Scene("azure td"), 0.02),
        (Scene("bare td"), 0.02),
        (with_four_gpus(), 0.06),
    ],
    ids=["confidential", "azure td", "bare td", "four GPUs"],
)
def test_a_whole_appraisal_takes_a_few_milliseconds(scene: Scene, seconds: float) -> None:
    """Measure processor time and take the best of several.

    The bound leaves room for a computer five times slower than the one it was set on.
    """
    assert scene.appraise().verdict == "passed"
    taken = []
    for _ in range(5):
        start = time.process_time()
        scene.appraise()
        taken.append(time.process_time() - start)
    assert min(taken) < 5 * seconds
