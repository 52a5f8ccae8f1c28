"""What a sandbox sees of /proc: its own processes, and the few files of the kernel's that training
reads.

The rest is text that the machine's host may choose and that nothing measures (partitions, the
command line, names of hardware): whatever makes a loader open it, it is not there to be trained on.
/sys is not there at all. Left out: /proc/PID, which is of the sandbox's own processes, and with it
the mounts that the runner made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# What training reads, by trace: numbers of processors and of bytes, and what processors can do.
SEEN = frozenset(("cpuinfo", "meminfo", "stat"))
SEEN_IN_SYS = ("vm/overcommit_memory",)
# NVIDIA's driver besides.
SEEN_WITH_GPUS = frozenset(("devices", "driver", "modules"))
SEEN_IN_SYS_WITH_GPUS = ("vm/mmap_min_addr",)


def hidden(*, gpus: bool, proc: Path = Path("/proc")) -> Iterator[str]:
    """Bubblewrap's words that hide the rest of the kernel's files in a /proc that it has made.

    A folder becomes an empty one, a file one that cannot be read: bubblewrap's bind of a device.
    """
    seen = SEEN | SEEN_WITH_GPUS if gpus else SEEN
    for path in sorted(proc.iterdir()):
        # Links lead to /proc/self.
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
