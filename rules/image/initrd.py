"""Make the machine's initrd: the init and the kernel modules that it loads, as a cpio archive.

The format is `newc` (kernel: driver-api/early-userspace/buffer-format.rst). Owners, times and
numbers are fixed, so equal contents give equal bytes.
"""

import lzma
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError

# Kernel modules, in the order in which image/machine/init.c loads them.
MODULES = (
    "virtio_blk", "sha256-ssse3", "dm-mod", "dm-bufio", "reed_solomon", "dm-verity", "libcrc32c",
    "erofs", "scsi_common", "scsi_mod", "sd_mod", "scsi_transport_fc", "virtio_scsi", "hv_vmbus",
    "hv_storvsc",
)  # fmt: skip
# Only in the GPU image: the modules for GPUs on Azure, and NVIDIA's driver, which is compiled here.
GPU_MODULES = ("pci-hyperv-intf", "pci-hyperv", "nvidia", "nvidia-uvm")
# Only in the serving image; the last one is Azure's.
NETWORK_MODULES = ("failover", "net_failover", "virtio_net", "hv_netvsc")
_DIRECTORY = 0o040755
_PROGRAM = 0o100755
_FILE = 0o100644
_DEPENDS = re.compile(rb"(?:^|\0)depends=([^\0]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    name: str
    mode: int
    content: bytes = b""


def build(init: bytes, modules: Mapping[str, bytes]) -> bytes:
    """Make the archive of `/init` and `/modules/NAME.ko`, for the given modules."""
    entries = [
        _Entry(name=name, mode=_DIRECTORY) for name in ("dev", "modules", "proc", "root", "sys")
    ]
    entries.append(_Entry(name="init", mode=_PROGRAM, content=init))
    entries += [
        _Entry(name=f"modules/{name}.ko", mode=_FILE, content=modules[name])
        for name in (*MODULES, *GPU_MODULES, *NETWORK_MODULES)
        if name in modules
    ]
    archive = b"".join(_newc(entry, number) for number, entry in enumerate(entries, 1))
    archive += _newc(_Entry(name="TRAILER!!!", mode=0), 0)
    return archive + bytes(-len(archive) % 512)


def read_modules(
    tree: Path, release: str, driver: Path | None = None, *, network: bool = False
) -> dict[str, bytes]:
    """Read the modules from a kernel package's tree, uncompressed, with signatures at the end.

    They include those for GPUs if the `driver` folder is given, and those for a network if
    `network` is true. Raises ToolError if a module is missing, or needs one that the init does not
    load before it.
    """
    files = {
        path.name.removesuffix(".ko.xz"): path
        for path in sorted((tree / "usr/lib/modules" / release).rglob("*.ko.xz"))
    }
    if driver is not None:
        files |= {path.stem: path for path in sorted(driver.glob("*.ko"))}
    modules: dict[str, bytes] = {}
    wanted = (*MODULES, *(GPU_MODULES if driver is not None else ()))
    for name in (*wanted, *(NETWORK_MODULES if network else ())):
        if name not in files:
            raise ToolError(f"the kernel {release} has no module {name}")
        data = files[name].read_bytes()
        data = lzma.decompress(data) if files[name].suffix == ".xz" else data
        match = _DEPENDS.search(data)
        needs = (
            {word.replace("-", "_") for word in match[1].decode().split(",") if word}
            if match
            else set()
        )
        missing = needs - {known.replace("-", "_") for known in modules}
        if missing:
            raise ToolError(
                f"module {name} needs {', '.join(sorted(missing))}, which the init does not load"
            )
        modules[name] = data
    return modules


def _newc(entry: _Entry, number: int) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = (
        number,  # inode
        entry.mode,
        0,  # user
        0,  # group
        2 if entry.mode == _DIRECTORY else 1,  # links
        0,  # time
        len(entry.content),
        0, 0, 0, 0,  # devices
        len(name),
        0,  # no checksum
    )  # fmt: skip
    header = b"070701" + b"".join(b"%08X" % value for value in fields) + name
    header += bytes(-len(header) % 4)
    return header + entry.content + bytes(-len(entry.content) % 4)
