"""Measure the facts about the machine that every run report has, whatever the trainer."""

import platform
import re
from collections.abc import Sequence
from pathlib import Path

from aicert.formats.run_report import Value

# Processor features that select a different code path in torch's kernels.
_FEATURES = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")
_MAX_TEXT = 200
# A file with ranges such as 0-3,8: processors that the kernel may run code on, including those that
# are switched off.
_PRESENT = Path("/sys/devices/system/cpu/present")
_RANGES = re.compile(r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*", re.ASCII)
# The name of the node of one GPU; the driver has other nodes for itself.
_GPU = re.compile(r"nvidia[0-9]+", re.ASCII)


def values() -> dict[str, Value]:
    """Return the processor and the kernel, as measured by the runner."""
    return {
        "processor": Value("measured", _processor()),
        "processorFeatures": Value("measured", _features()),
        "kernel": Value("measured", platform.release()[:_MAX_TEXT]),
    }


def units(gpus: Sequence[Path], present: Path = _PRESENT) -> dict[str, Value]:
    """Count the processors and accelerators that this machine can compute on.

    Call this before anything is computed: a processor that is removed later has computed, and no
    program here switches on one that is added later. `gpus`: the nodes that programs here get; no
    other accelerator has a node. There is no `processorCount` if the kernel does not say.
    """
    values = {
        "acceleratorCount": Value("measured", sum(bool(_GPU.fullmatch(gpu.name)) for gpu in gpus))
    }
    processors = _counted(present)
    if processors:
        values["processorCount"] = Value("measured", processors)
    return values


def _counted(present: Path) -> int:
    """Return how many numbers the file's list of ranges covers; 0 if it cannot be read."""
    try:
        ranges = present.read_text("ascii", "replace").strip()
    except OSError:
        return 0
    if not _RANGES.fullmatch(ranges):
        return 0
    numbers = 0
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers += max(0, int(last or first) - int(first) + 1)
    return numbers


def _processor() -> str:
    return _cpuinfo("model name") or platform.machine()


def _features() -> str:
    flags = set(_cpuinfo("flags").split())
    return " ".join(name for name in _FEATURES if name in flags)


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return match[1] if match else ""
