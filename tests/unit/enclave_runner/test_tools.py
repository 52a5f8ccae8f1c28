"""Trainers whose packages lie in a folder of their own."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.formats import lockfile, machine_io
from aicert.formats.digest import Digest
from aicert.formats.lockfile import LockedInput, Lockfile
from enclave_runner import __main__ as runner
from enclave_runner import options
from enclave_runner.axolotl import training
from enclave_runner.sandbox.containment import Limits

CONFIG = LockedInput(
    name="config", source="path:c", uri="path:c", size=1, digest=Digest("sha256", "c" * 64)
)
RUN = Lockfile(run="r", trainer="mergekit", outputs=("m",), inputs=(CONFIG,))


def arguments(tmp_path: Path, *more: str) -> list[str]:
    """Return the runner's command line, for a run of the trainer `mergekit`."""
    path = tmp_path / "lock.toml"
    path.write_bytes(lockfile.emit(RUN))
    return [
        "--tcti=none", f"--nonce={'00' * 32}", f"--lockfile={path}", f"--scratch={tmp_path}/work",
        f"--out={tmp_path}", f"--training-env={tmp_path}", "--events-fd=1",
        *(f"--{name}=1" for name in machine_io.LIMITS), *more,
    ]  # fmt: skip


@pytest.fixture
def stoppable() -> Iterator[None]:
    """Keep this process's own way to be stopped, which the runner replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("stoppable")
def test_a_machine_without_the_packages_refuses_before_it_measures(tmp_path: Path) -> None:
    (tmp_path / "tools" / "lm-eval").mkdir(parents=True)
    for more in ((), (f"--tools={tmp_path}/none",), (f"--tools={tmp_path}/tools",)):
        reading, writing = os.pipe()
        # The TPM does not exist: whoever asked it would get another error.
        line = arguments(tmp_path, *more, f"--events-fd={writing}")
        assert runner.main(line) == ConfigError.exit_code
        event = machine_io.parse_event(os.read(reading, machine_io.MAX_EVENT))
        os.close(reading)
        os.close(writing)
        assert event is not None
        assert (event["message"], event["hint"]) == (
            "this machine has no mergekit",
            'image = "tools"',
        )


def test_the_packages_of_a_trainer_are_in_the_folder_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "tools" / "mergekit"
    folder.mkdir(parents=True)
    parsed = options.parse(arguments(tmp_path, f"--tools={tmp_path}/tools"), None)
    assert options.tools_of(parsed, "mergekit") == folder
    assert options.tools_of(parsed, "axolotl-merge") is None


def test_the_report_has_the_versions_that_the_child_imports(tmp_path: Path) -> None:
    packages, tools = tmp_path / "lib/python3.11/site-packages", tmp_path / "lm-eval"
    for path in (
        packages / "torch-2.13.0.dist-info", packages / "peft-0.20.0.dist-info",
        tools / "peft-0.19.0.dist-info", tools / "lm_eval-0.4.13.dist-info",
        tools / "more_itertools-1.0.dist-info",
    ):  # fmt: skip
        path.mkdir(parents=True)
    assert training.facts(tmp_path, Limits())["versions"] == {"peft": "0.20.0", "torch": "2.13.0"}
    assert training.facts(tmp_path, Limits(), tools=tools)["versions"] == {
        "lmEval": "0.4.13",
        "peft": "0.19.0",
        "torch": "2.13.0",
    }
