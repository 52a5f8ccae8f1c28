"""The `qemu` machine: the run in the measured image, under emulation or KVM.

The machine gets the image and the input volume read-only, an empty output volume, a TPM and a port
for its progress. It has no network device. It runs once and powers off. Nothing is left running,
whatever happens, and its console stays in the run's folder until the next run.
"""

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from aicert.errors import AicertError, ToolError
from aicert.formats import machine_io
from rules.host import progress
from rules.host.work import remove
from rules.image import build
from rules.image.store import Image
from rules.image.tasks import ensure
from rules.machines.ca import local_ca
from rules.machines.events import Follower
from rules.machines.machine import Job
from rules.machines.qemu import accelerator as qemu_accelerator
from rules.machines.qemu import command as qemu_command
from rules.machines.qemu import console as qemu_console
from rules.machines.qemu.console import CONSOLE, console_tail
from rules.machines.qemu.tpm import machine_tpm
from rules.machines.volumes import (
    NO_RESULTS,
    Volumes,
    attach_lock,
    make_output,
    make_volumes,
    read_output,
)

# Time for firmware, kernel, hashing, reading rows, and measuring outputs and loss under emulation,
# on top of the training's own limit.
_BOOT_S = 1200
_WORDS = {"kvm": "with KVM", "tcg": "emulated: this takes longer"}


def execute(job: Job) -> Path:
    """Run the job in this checkout's image, which is rebuilt if its inputs changed.

    Returns the folder with `certificate.json`, log and outputs. Raises the runner's own error
    (ConfigError, LockError, ToolError), or ToolError if it died.
    """
    image = ensure(job.root, gpu=job.machine.gpu, tools=job.machine.tools)
    with build.in_use(build.place(job.root)):
        return execute_in(job, image)


def execute_in(job: Job, image: Image) -> Path:
    """Run the job in that image; run it again if the first machine ended before its
    runner started.
    """
    volumes = Volumes(
        image=image.disk, inputs=job.work / "inputs.img", output=job.work / "output.img"
    )
    make_volumes(job, image, volumes)
    try:
        return _boot(job, image, volumes)
    except _NotStartedError as error:
        progress.say(f"{job.run}: {error.message}; no training had begun, so it boots again")
    _clear(job, volumes)
    try:
        return _boot(job, image, volumes)
    except _NotStartedError as error:
        raise ToolError(f"{error.message}\n{error.console}", hint=error.hint) from None


class _NotStartedError(ToolError):
    """The machine ended, apparently by chance, before its runner or before the training."""

    def __init__(self, message: str, console: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.console = console


def _boot(job: Job, image: Image, volumes: Volumes) -> Path:
    """Run one machine from its start to its results."""
    out = job.work / "out"
    out.mkdir()
    machine = job.machine
    accelerator = qemu_accelerator.choose(image)
    progress.say(f"{job.run}: booting the measured machine ({_WORDS[accelerator]})")
    follower = Follower(job.run, before="booting")
    limit = machine.time_limit + _BOOT_S
    with machine_tpm(job.work, local_ca(job.root, "qemu")) as control, _kept_console(job.work):
        process, port = qemu_command.boot(
            job.work,
            image,
            volumes,
            machine,
            accelerator,
            control=control,
            port=machine_io.EVENTS_PORT,
        )
        with port, _ended(process, limit) as late:
            with port.makefile("rb") as events:
                follower.follow(events)
            code = process.wait()
    console = console_tail(job.work)
    if late.is_set():
        raise ToolError(f"the machine did not finish within {limit} s\n{console}".rstrip())
    hint = f"less {job.work.parent / CONSOLE}"
    failure = None if follower.has_trained else follower.error
    if failure is not None and qemu_console.has_late_tpm(qemu_console.read(job.work)):
        raise _NotStartedError(failure.message, console, hint)
    follower.finish(code, console)
    try:
        read_output(job.work / "output.img", out)
    except AicertError as error:
        lines = qemu_console.read(job.work)
        end = qemu_console.end_of(lines)
        # The runner writes the output, and only after its first event.
        if end.is_chance and not follower.has_started and error.message == NO_RESULTS:
            raise _NotStartedError(f"{NO_RESULTS}: {end.words}", console, hint) from None
        raise ToolError(qemu_console.explained(error.message, lines), hint=hint) from None
    attach_lock(out / machine_io.CERTIFICATE, image)
    return out


def _clear(job: Job, volumes: Volumes) -> None:
    """Remove a machine's files except its inputs: each machine gets its own TPM."""
    for path in job.work.iterdir():
        if path != volumes.inputs:
            remove(path) if path.is_dir() else path.unlink()
    make_output(job, volumes)


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]", limit: float) -> Iterator[threading.Event]:
    """Kill the machine when the block ends or the time is up. The event tells if it was
    the time.
    """
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
    """Move the console next to the run's folder, where it stays until the run's next machine."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(work / CONSOLE, work.parent / CONSOLE)
