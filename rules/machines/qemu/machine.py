"""The `qemu` machine: the run inside the measured image, under full emulation or KVM.

The machine gets the image and the input volume read-only, an empty output volume, a TPM and one
port on which it tells its progress. It has no network device. It runs once and powers off; whatever
happens, nothing of it is left running, and its console stays in the run's folder until that is
swept.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import AicertError, ToolError
from aicert.formats import certificate as certificates
from aicert.frozen import replace
from aicert.verifier import verify
from rules.host import progress
from rules.host.work import remove
from rules.image import build, store
from rules.image.sandbox import Sandbox
from rules.image.store import Image
from rules.image.tasks import ensure
from rules.machines import volumes as qemu_volumes
from rules.machines.ca import local_ca
from rules.machines.events import Follower
from rules.machines.local import Job
from rules.machines.qemu import accelerator as qemu_accelerator
from rules.machines.qemu import console as qemu_console
from rules.machines.qemu.console import CONSOLE, console_tail
from rules.machines.qemu.tpm import machine_tpm
from rules.machines.volumes import NO_RESULTS

FIRMWARE = f"/{store.FIRMWARE}"
VARIABLES = "usr/share/OVMF/OVMF_VARS_4M.fd"
# What the system itself needs beside the training: kernel, page cache, the runner.
OWN_MEMORY = 768 << 20
# Firmware, kernel, hashing, reading rows and measuring outputs and loss under emulation, on top of
# the training's own limit.
_BOOT_S = 1200
# What the machine writes beside what its scratch can hold: certificate, log, names.
OUTPUT_ROOM = 64 << 20
_WORDS = {"kvm": "with KVM", "tcg": "emulated: this takes longer"}
# A fixed set of devices in fixed places: the firmware measures where it boots from.
_MACHINE = (
    "-machine", "q35,smm=off,vmport=off", "-nodefaults", "-no-user-config", "-display", "none",
    "-no-reboot", "-nic", "none", "-rtc", "base=utc",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """What is attached: paths on the host."""

    image: Path
    inputs: Path | None = None
    output: Path | None = None


def execute(job: Job) -> Path:
    """Run the job in this checkout's image, which is built where an input of it changed.

    Returns the folder with `certificate.json`, log and outputs. Raises the runner's own error
    (ConfigError, LockError, ToolError) or a ToolError if it died.
    """
    image = ensure(job.root, gpu=job.run.machine.gpu)
    with build.in_use(build.place(job.root)):
        return execute_in(job, image)


def execute_in(job: Job, image: Image) -> Path:
    """Run the job in that image; once more where the first machine ended before its runner."""
    volumes = Volumes(
        image=image.disk, inputs=job.work / "inputs.img", output=job.work / "output.img"
    )
    make_volumes(job, image, volumes)
    try:
        return _boot(job, image, volumes)
    except _NotStartedError as error:
        progress.say(f"{job.run.name}: {error.message}; no run had begun, so it is booted again")
    _clear(job, volumes)
    try:
        return _boot(job, image, volumes)
    except _NotStartedError as error:
        raise ToolError(f"{error.message}\n{error.console}", hint=error.hint) from None


class _NotStartedError(ToolError):
    """The machine ended by itself, by chance as it seems, and no runner had started in it."""

    def __init__(self, message: str, console: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.console = console


def _boot(job: Job, image: Image, volumes: Volumes) -> Path:
    """One machine, from its start to its results."""
    out = job.work / "out"
    out.mkdir()
    machine = job.run.machine
    accelerator = qemu_accelerator.choose(image)
    progress.say(f"{job.run.name}: booting the measured machine ({_WORDS[accelerator]})")
    follower = Follower(job.run.name, before="booting")
    limit = machine.time_limit + _BOOT_S
    with machine_tpm(job.work, local_ca(job.root, "qemu")) as control, _kept_console(job.work):
        started = _start(job, image, volumes, control, accelerator)
        with started.events, _ended(started.process, limit) as late:
            with started.events.makefile("rb") as events:
                follower.follow(events)
            code = started.process.wait()
    console = console_tail(job.work)
    if late.is_set():
        raise ToolError(f"the machine did not end in {limit} s\n{console}".rstrip())
    follower.finish(code, console)
    try:
        qemu_volumes.read_output(job.work / "output.img", out)
    except AicertError as error:
        hint, lines = f"less {job.work.parent / CONSOLE}", qemu_console.read(job.work)
        end = qemu_console.end_of(lines)
        # The output is written by a runner, and its first words come before all else.
        if end.is_chance and not follower.has_started and error.message == NO_RESULTS:
            raise _NotStartedError(f"{NO_RESULTS}: {end.words}", console, hint) from None
        raise ToolError(qemu_console.explained(error.message, lines), hint=hint) from None
    attach_lock(out / "certificate.json", image)
    return out


def _clear(job: Job, volumes: Volumes) -> None:
    """Take away what a machine had, but what it was to read: each gets a TPM of its own."""
    for path in job.work.iterdir():
        if path != volumes.inputs:
            remove(path) if path.is_dir() else path.unlink()
    _make_output(job, volumes)


def make_volumes(job: Job, image: Image, volumes: Volumes) -> None:
    """The input volume, and a hole as large as what the machine may write."""
    machine = job.run.machine
    if volumes.inputs is None or volumes.output is None:
        raise ToolError("a run needs an input and an output volume")
    limits = {
        "time-limit": machine.time_limit,
        "memory": max(machine.memory - OWN_MEMORY, OWN_MEMORY),
        "processes": machine.processes,
        "scratch-limit": machine.scratch,
        "threads": machine.cpus or 1,
    }
    qemu_volumes.make_inputs(
        image.tools,
        job.work,
        lockfile=job.lock.data,
        nonce=job.nonce,
        limits=limits,
        inputs=job.lock.paths,
        target=volumes.inputs,
    )
    _make_output(job, volumes)


def _make_output(job: Job, volumes: Volumes) -> None:
    if volumes.output is not None:
        with volumes.output.open("wb") as file:
            # A hole: what the machine writes is all that it takes up.
            file.truncate(job.run.machine.scratch + OUTPUT_ROOM)


def attach_lock(path: Path, image: Image) -> None:
    """Put the image's lock beside the evidence, unsigned: a claim (design section 7)."""
    certificate = verify.read_certificate(path)
    path.write_bytes(certificates.emit(replace(certificate, image_lock=image.lock)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    process: "subprocess.Popen[bytes]"
    events: socket.socket


def _start(job: Job, image: Image, volumes: Volumes, control: str, accelerator: str) -> _Started:
    machine = job.run.machine
    shutil.copyfile(image.tools / VARIABLES, job.work / "variables.fd")
    ours, theirs = socket.socketpair()
    with theirs:
        words = command(
            volumes,
            accelerator=accelerator,
            memory=machine.memory,
            cpus=machine.cpus or min(os.cpu_count() or 1, 8),
            control=control,
            events_fd=theirs.fileno(),
        )
        process = start(job.work, image, volumes, words, accelerator, pass_fds=[theirs.fileno()])
    return _Started(process=process, events=ours)


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
    words += _disk("image", "/machine/image", 4, "readonly=on", ",bootindex=0")
    if volumes.inputs is not None:
        words += _disk("inputs", "/machine/inputs", 5, "readonly=on")
    if volumes.output is not None:
        words += _disk("output", "output.img", 6, "cache=unsafe")
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
        words += ["-device", "virtserialport,chardev=events,name=aicert.events"]
    return words


def _drive(name: str, path: str, options: str) -> list[str]:
    return ["-drive", f"id={name},file={path},format=raw,{options}"]


def _disk(name: str, path: str, slot: int, options: str, more: str = "") -> list[str]:
    # A full or failing host disk is an error in the machine, not a machine that stands still.
    drive = _drive(name, path, f"if=none,{options},werror=report,rerror=report")
    return [
        *drive,
        "-device",
        f"virtio-blk-pci,drive={name},serial=aicert-{name},addr={slot}{more}",
    ]


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]", limit: float) -> Iterator[threading.Event]:
    """Kill the machine when the block is left or the time is up; tells whether it was the time."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limit, stop)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        process.kill()
        process.wait()


@contextlib.contextmanager
def _kept_console(work: Path) -> Iterator[None]:
    """The console outlives the run's own folder: beside it, until the run's next machine."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(work / CONSOLE, work.parent / CONSOLE)
