"""The only table of drivers: each row fulfils its contract, and no other code uses their names."""

import ast
from pathlib import Path

import pytest

from rules.machines import local
from rules.machines.azure import machine as azure
from rules.machines.machine import DRIVERS, Cloud, Implementation, cloud, implementation
from rules.machines.qemu import machine as qemu

RULES = Path(__file__).resolve().parents[4] / "rules"
# mypy checks these against the contract.
OWN: dict[str, Implementation] = {"local": local, "qemu": qemu, "azure": azure}
CLOUDS: dict[str, Cloud] = {"azure": azure}


@pytest.mark.parametrize("name", DRIVERS)
def test_a_row_names_the_module_that_does_the_work(name: str) -> None:
    driver = DRIVERS[name]
    assert driver.name == name
    assert implementation(driver) is OWN[name]
    assert bool(driver.cloud) == (name in CLOUDS)
    if driver.cloud:
        assert cloud(driver) is CLOUDS[name]


def test_nobody_else_compares_a_drivers_name() -> None:
    comparisons = []
    for path in RULES.rglob("*.py"):
        if path.is_relative_to(RULES / "machines"):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Compare):
                constants = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
                comparisons += [f"{path}:{node.lineno}" for c in constants if c in DRIVERS]
    assert comparisons == []
