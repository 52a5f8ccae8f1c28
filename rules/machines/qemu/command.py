"""qemu's words, and how it is started: in a sandbox, with a fixed set of devices and no network."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from aicert.formats.machine_io import EVENTS_PORT, IMAGE_DISK, INPUT_DISK, OUTPUT_DISK, Disk
from rules.image import store
from rules.image.sandbox import Sandbox
from rules.image.store import Image
from rules.machines.qemu.console import CONSOLE
from rules.machines.volumes import Volumes

FIRMWARE = f"/{store.FIRMWARE}"
VARIABLES = "usr/share/OVMF/OVMF_VARS_4M.fd"
# A fixed set of devices in fixed places: the firmware measures where it boots from.
_MACHINE = (
    "-machine", "q35,smm=off,vmport=off", "-nodefaults", "-no-user-config", "-display", "none",
    "-no-reboot", "-nic", "none", "-rtc", "base=utc",
)  # fmt: skip


def start(
    work: Path,
    image: Image,
    volumes: Volumes,
    words: Sequence[str],
    accelerator: str,
    *,
    pass_fds: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start qemu of the tools tree in a sandbox that sees volumes and `work`, and no network."""
    disks = {Path("/machine/image"): volumes.image}
    if volumes.inputs is not None:
        disks[Path("/machine/inputs")] = volumes.inputs
    sandbox = Sandbox(
        tree=image.tools,
        mounts=disks,
        writable=[work],
        devices=[Path("/dev/kvm")] if accelerator == "kvm" else [],
        directory=work,
    )
    with (work / "qemu.log").open("wb") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *sandbox.command(words)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=pass_fds,
            start_new_session=True,
        )


def command(
    volumes: Volumes,
    *,
    accelerator: str,
    memory: int,
    cpus: int,
    control: str | None,
    events_fd: int | None,
) -> list[str]:
    """qemu's words. Relative paths are in the run's folder, disks in /machine."""
    # Emulation: 5-level paging crashes the kernel. KVM: the host's processor as it is.
    cpu = "host" if accelerator == "kvm" else "max,la57=off"
    words = ["qemu-system-x86_64", *_MACHINE, "-accel", accelerator, "-cpu", cpu]
    words += ["-m", f"{memory >> 20}M", "-smp", str(cpus), "-serial", f"file:{CONSOLE}"]
    words += _drive("firmware", FIRMWARE, "if=pflash,unit=0,readonly=on")
    words += _drive("variables", "variables.fd", "if=pflash,unit=1")
    words += _disk(IMAGE_DISK, "/machine/image", 4, "readonly=on", ",bootindex=0")
    if volumes.inputs is not None:
        words += _disk(INPUT_DISK, "/machine/inputs", 5, "readonly=on")
    if volumes.output is not None:
        words += _disk(OUTPUT_DISK, "output.img", 6, "cache=unsafe")
    if control is not None:
        words += [
            "-chardev",
            f"socket,id=tpm,path={control}",
            "-tpmdev",
            "emulator,id=tpm,chardev=tpm",
        ]
        words += ["-device", "tpm-crb,tpmdev=tpm"]
    if events_fd is not None:
        words += ["-chardev", f"socket,id=events,fd={events_fd}"]
        words += ["-device", "virtio-serial-pci,addr=7"]
        words += ["-device", f"virtserialport,chardev=events,name={EVENTS_PORT}"]
    return words


def _drive(name: str, path: str, options: str) -> list[str]:
    return ["-drive", f"id={name},file={path},format=raw,{options}"]


def _disk(disk: Disk, path: str, slot: int, options: str, more: str = "") -> list[str]:
    # A full or failing host disk is an error in the machine, not a machine that stands still.
    drive = _drive(disk.name, path, f"if=none,{options},werror=report,rerror=report")
    return [
        *drive,
        "-device",
        f"virtio-blk-pci,drive={disk.name},serial={disk.serial},addr={slot}{more}",
    ]
