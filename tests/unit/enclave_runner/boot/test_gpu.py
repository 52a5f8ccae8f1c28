"""Device nodes of GPUs, as the kernel and NVIDIA's driver report them, and who can see them."""

from pathlib import Path
from typing import NoReturn

import pytest

from aicert.errors import ToolError
from enclave_runner.axolotl import training
from enclave_runner.axolotl.config import Effective
from enclave_runner.boot import gpu
from enclave_runner.sandbox import containment
from enclave_runner.sandbox.containment import Limits, Sandbox

DEVICES = """\
Character devices:
  1 mem
195 nvidia
195 nvidiactl
240 nvidia-uvm
241 nvidia-caps

Block devices:
254 device-mapper
"""
# The form of /proc/driver/nvidia/gpus/ADDRESS/information.
INFORMATION = """\
Model: \t\t NVIDIA H100 NVL
IRQ:   \t\t 24
Device Minor: \t {}
GPU Excluded:\t No
"""


def test_nodes_of_two_gpus() -> None:
    nodes = gpu.nodes(DEVICES, [INFORMATION.format(1), INFORMATION.format(0)])
    assert nodes == {
        "nvidia0": (195, 0),
        "nvidia1": (195, 1),
        "nvidiactl": (195, 255),
        "nvidia-uvm": (240, 0),
        "nvidia-uvm-tools": (240, 1),
    }


# From an H200 with driver 580.159.04, without the card's own number; its nodes existed.
H200 = """\
Model: \t\t NVIDIA H200
IRQ:   \t\t 41
Video BIOS: \t 96.00.a5.00.1a
Bus Type: \t PCIe
DMA Size: \t 52 bits
DMA Mask: \t 0xfffffffffffff
Bus Location: \t 0000:00:06.0
Device Minor: \t 0
GPU Firmware: \t 580.159.04
GPU Excluded:\t No
"""


def test_nodes_of_a_real_gpu() -> None:
    assert gpu.nodes(DEVICES.replace("240", "238"), [H200]) == {
        "nvidia0": (195, 0),
        "nvidiactl": (195, 255),
        "nvidia-uvm": (238, 0),
        "nvidia-uvm-tools": (238, 1),
    }


def test_no_gpu_no_nodes() -> None:
    assert gpu.nodes(DEVICES, []) == {}


@pytest.mark.parametrize(
    ("devices", "information"),
    [(DEVICES, ""), (DEVICES.replace("nvidia-uvm", "x"), INFORMATION.format(0))],
)
def test_driver_that_says_too_little(devices: str, information: str) -> None:
    with pytest.raises(ToolError, match="does not say which devices"):
        gpu.nodes(devices, [information])


@pytest.mark.parametrize("gpus", [(), (Path("/dev/nvidia0"), Path("/dev/nvidiactl"))])
def test_who_trains_sees_gpus_only_where_they_are_given(
    gpus: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    seen: list[Sandbox] = []

    def run(words: tuple[str, ...], sandbox: Sandbox, *_: object) -> NoReturn:
        seen.append(sandbox)
        raise ToolError("nothing is to be trained")

    monkeypatch.setattr(containment, "run", run)
    nothing = Effective(config=b"{}", overrides=())
    with pytest.raises(ToolError, match="nothing is to be trained"):
        training.train(nothing, {}, tmp_path / "s", tmp_path, Limits(), ranks=2, gpus=gpus)
    (sandbox,) = seen
    assert sandbox.devices == gpus
    assert ("ACCELERATE_USE_CPU" in sandbox.environment) is not bool(gpus)
    assert ("CUDA_VISIBLE_DEVICES" in sandbox.environment) is not bool(gpus)


def test_the_sandbox_shows_a_device_that_it_is_given(tmp_path: Path) -> None:
    """Show a device that bubblewrap's own /dev does not have."""
    device = Path("/dev/kmsg")
    words = containment._command(
        Sandbox(read_only={}, scratch=tmp_path, environment={}, devices=(device,))
    )
    at = words.index("--dev-bind")
    assert words[at : at + 3] == ["--dev-bind", str(device), str(device)]
    # After bubblewrap mounts its own /dev, and before it closes all of /dev.
    assert words.index("--dev") < at < len(words) - words[::-1].index("/dev")
