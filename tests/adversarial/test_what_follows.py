"""A failed check leaves open the checks that rest on it, and no others."""

import pytest

from aicert.appraisal.result import BOOT_CHECKS, CHECKS
from tests.adversarial.attacks import MALFORMED, Attack, table
from tests.adversarial.forger import Scene

# Checks of the run need its statement, and so everything that is verified before it.
OF_RUN = {
    "inputs.records", "outputs.exit", "outputs.pcr8", "outputs.nonempty", "outputs.trained",
    "outputs.derived", "outputs.results", "subject.files", "policy.claims", "policy.age",
    "lineage.ancestors",
}  # fmt: skip
STATED = {"statement.form", *OF_RUN}
SIGNED = {"statement.signature", *STATED}
QUOTED = {"runkey.certified", "runkey.time", "inputs.pcr14", *SIGNED}
TIER = {"platform.tier", *BOOT_CHECKS}
CHIP = {"platform.guest", "platform.binding"}
AUDITS = ("audit.present", "audit.list", "audit.result")
FOLLOW: dict[str, set[str]] = {
    "platform.chain": {
        "platform.chip", *CHIP, "platform.gpu", *TIER, "quote.signature", "quote.structure",
        "quote.nonce", "quote.pcrs", *QUOTED,
    },
    "platform.chip": {*CHIP, *TIER},
    "platform.guest": TIER,
    "platform.binding": TIER,
    "platform.gpu": TIER,
    "platform.tier": set(BOOT_CHECKS),
    "quote.signature": {"quote.structure", "quote.nonce", "quote.pcrs", *QUOTED},
    "quote.structure": {"quote.nonce", "quote.pcrs", *QUOTED},
    "quote.nonce": {"quote.pcrs", *QUOTED},
    "quote.pcrs": QUOTED,
    "runkey.certified": {"runkey.time", *SIGNED},
    "statement.signature": STATED,
    "statement.form": OF_RUN,
    "inputs.pcr14": {"lineage.ancestors"},
    "boot.image": {"boot.pcr4", "boot.pcr11", "boot.pcr12-13"},
    "outputs.pcr8": {"subject.files", "policy.claims"},
    "log.included": {"log.witnessed"},
    "audit.present": set(AUDITS[1:]),
    "audit.list": set(AUDITS[2:]),
    "evaluation.present": {"evaluation.result"},
}  # fmt: skip
# The first row that each check refuses alone, where the row changes the policy only to ask for that
# check.
ROWS: dict[str, Attack] = {}
for row in table():
    if row.check != MALFORMED and not row.also:
        ROWS.setdefault(row.check, row)
# Rows with another policy, or with a lockfile that cannot be read: other checks follow.
OTHER = {
    "lineage.ancestors": "ancestor not certified",
    "inputs.lockfile": "another lockfile than the caller's",
}


def followers(attack: Attack, kind: str) -> set[str]:
    scene = Scene(kind, attack.version)
    attack.change(scene)
    cause = f"not checked: {attack.check} failed"
    return {check.id for check in scene.appraise().checks if check.detail == cause}


@pytest.mark.parametrize("check", CHECKS)
def test_what_rests_on_a_check_is_not_decided_where_it_fails(check: str) -> None:
    attack = next((row for row in table() if row.name == OTHER.get(check)), ROWS[check])
    assert followers(attack, attack.kind) == FOLLOW.get(check, set())


@pytest.mark.parametrize("check", ["platform.chip", "platform.guest", "platform.binding"])
def test_gpus_are_judged_in_a_machine_whose_processor_says_so(check: str) -> None:
    assert followers(ROWS[check], "gpu") == {"platform.gpu", *FOLLOW[check]}


def test_gpus_are_judged_for_a_statement_that_names_them() -> None:
    expected = {"platform.gpu", *TIER, *OF_RUN}
    assert followers(ROWS["statement.form"], "gpu") == expected
