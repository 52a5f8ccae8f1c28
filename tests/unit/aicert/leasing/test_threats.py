"""Each test in the table of threats to leases exists and mentions its check."""

import importlib
import inspect
from typing import Any

import pytest

from aicert.lease.checks import CHECKS
from tests.adversarial import lease_threats
from tests.adversarial.lease_threats import MACHINES_OWN, THREATS, Threat


def function_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def spoken_of(path: str) -> set[str]:
    """Return the checks that a test mentions: in its name, its body or the rows of its table."""
    function = function_of(path)
    marks = [mark.args for mark in getattr(function, "pytestmark", ())]
    source = f"{inspect.getsource(function)}{marks!r}".replace("\\", "")
    name = function.__name__.removeprefix("test_")
    return {
        check
        for check in (*CHECKS, *MACHINES_OWN)
        if name.startswith(check.replace(".", "_").replace("-", "_")) or check in source
    }


@pytest.mark.parametrize("threat", THREATS, ids=[threat.attack for threat in THREATS])
def test_each_threat_is_refused_by_its_checks_in_its_tests(threat: Threat) -> None:
    assert threat.proofs
    for path in threat.proofs:
        assert function_of(path).__name__.startswith("test_")
    spoken = set().union(*map(spoken_of, threat.proofs))
    assert set(threat.checks) <= spoken


def test_every_check_refuses_a_threat() -> None:
    assert {check for threat in THREATS for check in threat.checks} == {*CHECKS, *MACHINES_OWN}


# What only a machine with firmware, disks and a network shows (lines of the table).
BOOTED = (4, 5, 15, 17, 18, 20, 32, 33, 37)


def test_a_booted_machine_shows_what_only_one_can() -> None:
    assert [number for number, threat in enumerate(THREATS, 1) if threat.is_booted] == [*BOOTED]


def test_the_table_can_be_read() -> None:
    lines = list(lease_threats.lines())
    assert len(lines) == len(THREATS) > 40
    assert lines[0].startswith(" 1  a licence's budget")
