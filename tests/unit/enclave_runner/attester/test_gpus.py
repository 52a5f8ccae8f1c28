"""GPUs queried through NVIDIA's library (`tests/nvml.py`); nvml.h gives the sizes."""

import ctypes
from datetime import UTC, datetime
from typing import Any

import pytest

from aicert.appraisal.evidence import nvidia_device
from aicert.errors import ToolError
from enclave_runner.attester import gpus
from tests.adversarial import nvidia_forge as forge
from tests.nvml import DEVICES, Driver

NOT_SUPPORTED, UNKNOWN = 3, 999


def test_layouts_are_those_of_the_header() -> None:
    assert ctypes.sizeof(gpus.Settings) == 20
    assert ctypes.sizeof(gpus.Certificates) == 8 + 0x1000 + 0x1400
    assert ctypes.sizeof(gpus.Report) == 12 + 0x20 + 0x2000 + 0x1000
    assert gpus.Report.attestationReport.offset == 44


@pytest.mark.parametrize("how", [{"on": 1}, {"on": 0, "together": 1}])
def test_each_gpu_answers_the_nonce_before_it_is_used(how: dict[str, int]) -> None:
    driver = Driver(**how)
    nonce = bytes(range(32))
    answers = gpus.ask(gpus.Nvml(driver.library), nonce)
    at = datetime(2026, 10, 1, tzinfo=UTC)
    for one in answers:
        judged = nvidia_device.verify(one.report, one.chain, forge.ca_root(), nonce, at)
        assert judged.model == "GH100"
    assert len(answers) == len({one.chain[0] for one in answers}) == len(DEVICES)
    assert driver.ready == 1
    assert driver.calls[-2:] == ["nvmlSystemSetConfComputeGpusReadyState", "nvmlShutdown"]


@pytest.mark.parametrize(
    "how",
    [
        {"on": 0},
        {"environment": 1},
        {"developers": 1},
        {"on": 0, "together": 1, "developers": 1},
        # The answer of an H200 outside confidential computing (driver 580.159.04).
        {
            "environment": 0,
            "on": 0,
            "fails": {
                "nvmlDeviceGetConfComputeGpuCertificate": UNKNOWN,
                "nvmlDeviceGetConfComputeGpuAttestationReport": UNKNOWN,
            },
        },
        {"fails": {"nvmlSystemGetConfComputeSettings": NOT_SUPPORTED}},
    ],
)
def test_gpus_without_protection_get_no_statement(how: dict[str, Any]) -> None:
    driver = Driver(**how)
    assert gpus.ask(gpus.Nvml(driver.library), bytes(32)) == ()
    assert (driver.ready, driver.calls[-1]) == (0, "nvmlShutdown")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"count": 0}, "lists 0 GPUs"),
        ({"count": 17}, "lists 17 GPUs, not 1 to 16"),
        ({"pem": b"nothing of the kind"}, "GPU 0 gave no certificates"),
        (
            {"fails": {"nvmlDeviceGetConfComputeGpuAttestationReport": UNKNOWN}},
            "nvmlDeviceGetConfComputeGpuAttestationReport returned 999",
        ),
        ({"fails": {"nvmlInit_v2": 9}}, "nvmlInit_v2 returned 9"),
    ],
)
def test_a_protected_gpu_that_does_not_answer_ends_the_run(how: dict[str, Any], words: str) -> None:
    driver = Driver(**how)
    with pytest.raises(ToolError, match=words):
        gpus.ask(gpus.Nvml(driver.library), bytes(32))
    assert driver.ready == 0


def test_a_size_beyond_its_room_reads_no_further() -> None:
    answers = gpus.ask(gpus.Nvml(Driver(size=0xFFFFFFFF).library), bytes(32))
    assert {len(one.report) for one in answers} == {0x2000}


def test_without_the_library_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "LIBRARY", "libnothing-of-the-kind.so.1")
    assert gpus.load() is None
    # A library without these functions, as an older driver's: the C library.
    monkeypatch.setattr(gpus, "LIBRARY", None)
    assert gpus.load() is None
    assert gpus.ask(None, bytes(32)) == ()
