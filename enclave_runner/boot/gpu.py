"""Make the device nodes of NVIDIA's GPUs, which the driver leaves to a helper (nvidia-modprobe).

The numbers are those of NVIDIA's open kernel modules: major 195, with one minor for each GPU and
255 for control (common/inc/nv.h), and the major number that the kernel chose for nvidia-uvm.
`nodes` returns the same nodes that a machine with an H200 had; the image itself has not run with a
GPU (docs/spec/image.md). Left out: what a GPU reports about itself.
"""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from aicert.errors import ToolError

# Only the GPU image has this folder.
FIRMWARE = Path("/usr/lib/firmware/nvidia")
_DEVICES = Path("/proc/devices")
_GPUS = Path("/proc/driver/nvidia/gpus")
_MAJOR, _CONTROL = 195, 255
_UVM = re.compile(r"^ *([0-9]+) nvidia-uvm$", re.MULTILINE)
_MINOR = re.compile(r"^Device Minor:\s*([0-9]+)$", re.MULTILINE)


def nodes(devices: str, gpus: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return the name of each node with its major and minor number; empty if there is no GPU.

    `devices`: the text of /proc/devices. `gpus`: the driver's information about each GPU. Raises
    ToolError if these do not name every device.
    """
    minor_lines = [_MINOR.search(text) for text in gpus]
    if not minor_lines:
        return {}
    uvm = _UVM.search(devices)
    minors = sorted(int(match[1]) for match in minor_lines if match)
    if uvm is None or len(minors) != len(minor_lines):
        raise ToolError("NVIDIA's driver does not say which devices it has")
    named = {f"nvidia{minor}": (_MAJOR, minor) for minor in minors}
    named["nvidiactl"] = (_MAJOR, _CONTROL)
    return named | {"nvidia-uvm": (int(uvm[1]), 0), "nvidia-uvm-tools": (int(uvm[1]), 1)}


def make_nodes() -> list[Path]:
    """Make nodes for the GPUs that are present, usable by every user, and return their paths."""
    gpus = [
        (gpu / "information").read_text("ascii", "replace")
        for gpu in (sorted(_GPUS.iterdir()) if _GPUS.is_dir() else ())
    ]
    paths = []
    for name, (major, minor) in nodes(_DEVICES.read_text("ascii"), gpus).items():
        path = Path("/dev", name)
        os.mknod(path, stat.S_IFCHR, os.makedev(major, minor))
        path.chmod(0o666)
        paths.append(path)
    return paths
