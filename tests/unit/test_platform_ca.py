"""The extension that marks a simulated platform."""

import pytest

from aicert import platform_ca


def test_the_value_names_the_driver() -> None:
    assert platform_ca.extension("qemu").value == b"\x0c\x0esimulated:qemu"
    assert platform_ca.extension("local").oid == platform_ca.SIMULATED_OID


def test_only_simulated_drivers_have_one() -> None:
    with pytest.raises(ValueError, match="no simulated platform is named 'azure'"):
        platform_ca.extension("azure")
