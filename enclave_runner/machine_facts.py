"""What every run report says of the machine itself, whatever the trainer."""

import platform
import re
from pathlib import Path

from aicert.formats.run_report import Value

# Processor features that choose another code path in the kernels of torch.
_FEATURES = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")
_MAX_TEXT = 200


def values() -> dict[str, Value]:
    """Processor and kernel, as measured by the runner."""
    return {
        "processor": Value("measured", _processor()),
        "processorFeatures": Value("measured", _features()),
        "kernel": Value("measured", platform.release()[:_MAX_TEXT]),
    }


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
