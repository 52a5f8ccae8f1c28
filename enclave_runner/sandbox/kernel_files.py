"""Limit what a sandbox sees of /proc and /sys: its own processes, and a few read-only kernel files.

These are the files that training reads. The rest is text that the machine's host may choose and
that nothing measures (partitions, the command line, names of hardware). It is hidden, so that no
loader can be made to train on it. Without GPUs there is no /sys at all. Not hidden: /proc/PID of
the sandbox's own processes, and with it the mounts that the runner made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# The files that training reads, according to a trace: numbers of processors and of bytes, and the
# features of processors.
SEEN = frozenset(("cpuinfo", "meminfo", "stat"))
SEEN_IN_SYS = ("vm/overcommit_memory",)
# The files that NVIDIA's driver reads besides.
SEEN_WITH_GPUS = frozenset(("devices", "driver", "modules"))
SEEN_IN_SYS_WITH_GPUS = ("vm/mmap_min_addr",)
SYS_WITH_GPUS = ("devices/system", "module/nvidia", "module/nvidia_uvm")


def shown(*, gpus: bool) -> Iterator[str]:
    """Yield bubblewrap's options for /proc, which bubblewrap has made, and /sys.

    If the runner is root, the kernel treats the sandbox's user as root in /proc/sys, whose
    core_pattern runs programs outside, and bubblewrap leaves it writable. NVIDIA's driver, since
    series 570, gives up (CUDA's error 304) if it cannot name its threads, in
    /proc/self/task/*/comm, or without /sys: so with GPUs, /proc of the sandbox's own processes is
    writable.
    """
    if gpus:
        places = [f"/proc/{name}" for name in sorted(SEEN | SEEN_WITH_GPUS)]
        places += [f"/sys/{name}" for name in SYS_WITH_GPUS]
        for place in filter(os.path.exists, places):
            yield from ("--ro-bind", place, place)
    else:
        yield from ("--remount-ro", "/proc")
    yield from hidden(gpus=gpus)


def hidden(*, gpus: bool, proc: Path = Path("/proc")) -> Iterator[str]:
    """Yield bubblewrap's options that hide the other kernel files in the /proc that it has made.

    A folder becomes empty; a file becomes unreadable, as bubblewrap binds a device over it.
    """
    seen = SEEN | SEEN_WITH_GPUS if gpus else SEEN
    for path in sorted(proc.iterdir()):
        # Links lead to /proc/self, so they may stay.
        if path.name.isdigit() or path.name in seen or path.is_symlink():
            continue
        if not path.is_dir():
            yield from ("--ro-bind", "/dev/null", f"/proc/{path.name}")
            continue
        yield from ("--tmpfs", f"/proc/{path.name}")
        if path.name == "sys":
            yield from _seen_in_sys(path, gpus=gpus)
        yield from ("--remount-ro", f"/proc/{path.name}")


def _seen_in_sys(folder: Path, *, gpus: bool) -> Iterator[str]:
    names = (*SEEN_IN_SYS, *SEEN_IN_SYS_WITH_GPUS) if gpus else SEEN_IN_SYS
    for name in names:
        if (folder / name).is_file():
            yield from ("--ro-bind", f"/proc/sys/{name}", f"/proc/sys/{name}")
