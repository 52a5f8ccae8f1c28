"""The qemu command line, and how qemu is started: in a sandbox, with a fixed set of devices. A
machine that trains has no network; one that serves has one port, reachable from this computer.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.formats.machine_io import IMAGE_DISK, INPUT_DISK, OUTPUT_DISK, Disk
from rules.image import store
from rules.image.sandbox import Sandbox
from rules.image.store import Image
from rules.machines.machine import Machine
from rules.machines.qemu.console import CONSOLE
from rules.machines.volumes import Volumes

FIRMWARE = f"/{store.FIRMWARE}"
VARIABLES = "usr/share/OVMF/OVMF_VARS_4M.fd"
# A fixed set of devices in fixed slots, because the firmware measures where it boots from.
_MACHINE = (
    "-machine", "q35,smm=off,vmport=off", "-nodefaults", "-no-user-config", "-display", "none",
    "-no-reboot", "-nic", "none", "-rtc", "base=utc",
)  # fmt: skip

# qemu's own network of two: the machine has the first address that qemu gives out, and this
# computer is its neighbour (qemu, "Using the user mode network stack").
GUEST, PREFIX = "10.0.2.15", 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A machine's network: connections to `listen`:`port` here reach `guest_port` there. Nothing
    else reaches the machine, and it reaches nothing (`restrict`). `also`: further qemu options.
    """

    listen: str
    port: int
    guest_port: int
    is_restricted: bool = True
    also: tuple[str, ...] = ()


def start(
    work: Path,
    image: Image,
    volumes: Volumes,
    words: Sequence[str],
    accelerator: str,
    *,
    pass_fds: Sequence[int] = (),
    network: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start qemu from the tools tree in a sandbox that sees the volumes and `work`, and a network
    only if there is a port to forward.
    """
    disks = {Path("/machine/image"): volumes.image}
    if volumes.inputs is not None:
        disks[Path("/machine/inputs")] = volumes.inputs
    sandbox = Sandbox(
        tree=image.tools,
        mounts=disks,
        writable=[work],
        devices=[Path("/dev/kvm")] if accelerator == "kvm" else [],
        directory=work,
        network=network,
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


def boot(
    work: Path,
    image: Image,
    volumes: Volumes,
    machine: Machine,
    accelerator: str,
    *,
    control: str,
    port: str,
    network: Network | None = None,
) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """Boot a machine with firmware variables of its own. Returns it, and this computer's end of its
    port of that name. `control`: the socket of its TPM.
    """
    shutil.copyfile(image.tools / VARIABLES, work / "variables.fd")
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        words = command(
            volumes,
            accelerator=accelerator,
            memory=machine.memory,
            cpus=processors(machine),
            control=control,
            port=(port, fd),
            network=network,
        )
        process = start(
            work, image, volumes, words, accelerator, pass_fds=[fd], network=network is not None
        )
    return process, ours


def processors(machine: Machine) -> int:
    """Return the number of virtual CPUs: the configured one, otherwise the host's, up to eight."""
    return machine.cpus or min(os.cpu_count() or 1, 8)


def command(
    volumes: Volumes,
    *,
    accelerator: str,
    memory: int,
    cpus: int,
    control: str | None,
    port: tuple[str, int] | None = None,
    network: Network | None = None,
) -> list[str]:
    """Return the qemu command line. Relative paths are in the run's folder, disks in /machine.
    `port`: the name of the machine's only port to this computer, and the descriptor at this end.
    """
    # Emulation: the kernel crashes with 5-level paging. KVM: the host's processor, unchanged.
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
    if port is not None:
        name, descriptor = port
        own = name.removeprefix("aicert.")
        words += ["-chardev", f"socket,id={own},fd={descriptor}"]
        words += ["-device", "virtio-serial-pci,addr=7"]
        words += ["-device", f"virtserialport,chardev={own},name={name}"]
    if network is not None:
        words += _network(network)
    return words


def _network(network: Network) -> list[str]:
    user = f"user,id=net,ipv6=off,restrict={'on' if network.is_restricted else 'off'}"
    user += f",net=10.0.2.0/{PREFIX}"
    user += f",hostfwd=tcp:{network.listen}:{network.port}-{GUEST}:{network.guest_port}"
    # No option ROM: the firmware would measure it, and try to boot from the network.
    device = "virtio-net-pci,netdev=net,romfile=,addr=8"
    return ["-netdev", user, "-device", device, *network.also]


def _drive(name: str, path: str, options: str) -> list[str]:
    return ["-drive", f"id={name},file={path},format=raw,{options}"]


def _disk(disk: Disk, path: str, slot: int, options: str, more: str = "") -> list[str]:
    # If the host's disk is full or fails, report it to the machine instead of pausing it.
    drive = _drive(disk.name, path, f"if=none,{options},werror=report,rerror=report")
    return [
        *drive,
        "-device",
        f"virtio-blk-pci,drive={disk.name},serial={disk.serial},addr={slot}{more}",
    ]
