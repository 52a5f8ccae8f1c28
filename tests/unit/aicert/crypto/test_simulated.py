"""The extension that marks a simulated platform."""

import pytest

from aicert.crypto import simulated


def test_the_value_names_the_driver() -> None:
    assert simulated.extension("qemu").value == b"\x0c\x0esimulated:qemu"
    assert simulated.extension("local").oid == simulated.SIMULATED_OID


def test_only_simulated_drivers_have_one() -> None:
    with pytest.raises(ValueError, match="no simulated platform is named 'azure'"):
        simulated.extension("azure")
