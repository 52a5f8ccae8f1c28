"""Every check of leases is the one that refuses at least one attack."""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from aicert.lease.checks import CHECKS, RefusedError
from tests.e2e.lease import test_lease_licence, test_lease_receipts, test_lease_story
from tests.unit.aicert.lease import (
    test_bundle,
    test_ledger,
    test_licence,
    test_orders,
    test_receipts,
)
from tests.unit.aicert.leasing import (
    test_accounts,
    test_client_receipts,
    test_enrolments,
    test_serving,
)
from tests.unit.aicert.serving import test_answer_receipts
from tests.unit.enclave_runner.serving import test_load

MODULES = (
    test_accounts, test_answer_receipts, test_client_receipts, test_bundle, test_enrolments,
    test_lease_licence, test_lease_receipts,
    test_lease_story, test_ledger, test_licence, test_load, test_orders, test_receipts,
    test_serving,
)  # fmt: skip


def caught(module: ModuleType) -> Iterator[str]:
    """Yield the checks that a module's tests name, in a test's name or first in a table's row."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if not name.startswith("test_"):
            continue
        yield from (
            check for check in CHECKS
            if name.startswith("test_" + check.replace(".", "_").replace("-", "_"))
        )  # fmt: skip
        for mark in getattr(function, "pytestmark", ()):
            if mark.name == "parametrize" and "check" in names_of(mark.args[0]):
                place = names_of(mark.args[0]).index("check")
                yield from (values_of(row)[place] for row in mark.args[1])


def names_of(argument: Any) -> list[str]:
    return argument.split(",") if isinstance(argument, str) else list(argument)


def values_of(row: Any) -> Any:
    return getattr(row, "values", row)


def test_every_check_refuses_something() -> None:
    raised = {check for module in MODULES for check in caught(module)}
    assert raised == set(CHECKS)


def test_an_error_names_a_check_that_exists() -> None:
    with pytest.raises(ValueError, match="no check of leases is named"):
        RefusedError("serve.other", "x")
