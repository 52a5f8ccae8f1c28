from typing import Any

import pytest

from aicert.errors import ConfigError
from aicert.formats.tpm import sha256_name
from aicert.frozen import replace
from aicert.lease import custody, keys, licence, terms
from aicert.lease.custody import Secrets
from aicert.lease.terms import Terms
from aicert.leasing import granting
from aicert.leasing.enrolments import Enrolled
from aicert.leasing.granting import Issued
from tests.adversarial.enrolment_forge import Scene, judged
from tests.vectors.leases import FIRMWARE, IMAGE, agreed

MACHINE = judged(Scene())


def lease(*, offline: bool = False) -> tuple[Secrets, Terms]:
    kept = custody.drawn(offline=offline)
    named = keys.spki_digest(kept.key.public_key())
    key = terms.TPM_ALONE if offline else terms.SPLIT
    return kept, agreed(lease=kept.lease, custodian=named, key=key)


def issued(
    *, of: tuple[Secrets, Terms] | None = None, machine: Enrolled = MACHINE, **changes: Any
) -> tuple[Issued, Secrets, Terms]:
    kept, given = of or lease()
    how: dict[str, Any] = {
        "budget": 5_000_999, "duration": 60, "boots": 2, "is_offline": False, **changes,
    }  # fmt: skip
    return granting.issue(kept, given, machine, **how), kept, given


def test_a_licence_counts_from_the_machine_that_enrolled() -> None:
    granted, kept, given = issued()
    bounds = granted.licence.bounds
    assert (granted.ticks, bounds.budget) == (5000, MACHINE.meter.value + 5000)
    clock = MACHINE.meter.clock
    assert bounds.clock == clock.clock + 60_000
    assert (bounds.resets, bounds.restarts) == (clock.reset_count + 2, 0)
    assert bounds.epoch == MACHINE.epoch.value
    values = licence.registers(FIRMWARE, IMAGE)
    licence.verify(granted.licence, kept.key.public_key(), values)
    assert (granted.licence.terms, granted.licence.image) == (given.digest, IMAGE.digest)


def test_the_blob_is_for_this_lease() -> None:
    granted, kept, given = issued()
    name = sha256_name(MACHINE.storage_public)
    policy = licence.sealed_policy(kept.key.public_key(), given.lease, given.digest, name)
    assert policy in granted.blob.public
    assert granted.licence.machine == name


def test_offline_is_said_on_both_sides() -> None:
    both = lease(offline=True)
    assert issued(of=both, is_offline=True)[0].ticks == 5000
    with pytest.raises(ConfigError, match="for offline machines"):
        issued(of=both)
    with pytest.raises(ConfigError, match="cannot run offline"):
        issued(is_offline=True)


def test_what_cannot_be_issued() -> None:
    kept, given = lease()
    with pytest.raises(ConfigError, match="are for different leases"):
        issued(of=(kept, lease()[1]))
    with pytest.raises(ConfigError, match="are for different leases"):
        issued(of=(lease()[0], given))
    with pytest.raises(ConfigError, match="one tick of 1000 tokens"):
        issued(budget=999)
    late = replace(MACHINE.meter, value=(1 << 63) - 10)
    with pytest.raises(ConfigError, match="leave no room"):
        issued(machine=replace(MACHINE, meter=late))


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("500k", 500_000), ("5M", 5_000_000), ("2G", 2_000_000_000)]
)
def test_budgets(text: str, count: int) -> None:
    assert granting.tokens(text) == count


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "5m", "M", "1.5M", "٣", "1" * 16, "999999999999999G"]
)
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ConfigError, match="tokens"):
        granting.tokens(text)


@pytest.mark.parametrize(("text", "count"), [("90m", 5400), ("12h", 43_200), ("30d", 2_592_000)])
def test_durations(text: str, count: int) -> None:
    assert granting.seconds(text) == count


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5h", "٣d", "9999999999d", "9999d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match=r"duration|ten years"):
        granting.seconds(text)
