"""What the runner counts about the machine itself."""

import os
from pathlib import Path

import pytest

from enclave_runner import machine_facts


def units(folder: Path, present: str, *gpus: str) -> dict[str, object]:
    """Return values by name, for a kernel that lists `present` and these GPU nodes."""
    listed = folder / "present"
    listed.write_text(present)
    values = machine_facts.units([Path("/dev", gpu) for gpu in gpus], listed)
    assert {value.origin for value in values.values()} == {"measured"}
    return {name: value.data for name, value in values.items()}


@pytest.mark.parametrize(
    ("present", "count"), [("0\n", 1), ("0-1\n", 2), ("0-3,8", 5), ("0,2-3,64-127\n", 67)]
)
def test_processors_are_those_that_the_kernel_lists(
    tmp_path: Path, present: str, count: int
) -> None:
    assert units(tmp_path, present) == {"acceleratorCount": 0, "processorCount": count}


@pytest.mark.parametrize("present", ["", "0-", "-1", "0-1,", "none", "0-1 3", "0x10", "٣", "3-1"])
def test_a_list_that_is_none_counts_nothing(tmp_path: Path, present: str) -> None:
    assert units(tmp_path, present) == {"acceleratorCount": 0}


def test_a_kernel_that_does_not_say_counts_nothing(tmp_path: Path) -> None:
    assert "processorCount" not in machine_facts.units((), tmp_path / "absent")


def test_accelerators_are_the_nodes_of_gpus(tmp_path: Path) -> None:
    nodes = ("nvidia0", "nvidia1", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
    assert units(tmp_path, "0", *nodes)["acceleratorCount"] == 3


def test_this_machine_has_as_many_processors_as_python_counts_or_more() -> None:
    value = machine_facts.units(())["processorCount"].data
    assert isinstance(value, int)
    assert value >= (os.cpu_count() or 1)
