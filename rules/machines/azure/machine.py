"""The `azure` machine: the run inside the measured image, on a Trusted Launch machine of Azure.

The same image, the same volumes and the same runner as on `qemu`; the TPM is the cloud's, and so is
what the certificate is worth (docs/spec/tiers.md). No part of this has been run against Azure
itself: docs/azure.md says what was exercised instead, by name.
"""

import shutil
from pathlib import Path
from typing import cast

from aicert.errors import AicertError, ToolError
from aicert.formats import machine_io
from rules.host.signals import termination_raises
from rules.image import build, verity
from rules.image.store import Image
from rules.image.tasks import ensure
from rules.machines import volumes
from rules.machines.azure import clean, run, terraform, vhd
from rules.machines.azure.console import ConsoleStream
from rules.machines.events import Follower
from rules.machines.machine import Job, Leftover, Machine
from rules.machines.qemu import console
from rules.machines.qemu.console import explained

# The last evidence that came back, accepted or not: what a calibration reads.
LAST = run.HOME / "last-certificate.json"


def execute(job: Job) -> Path:
    """Run the job in this checkout's image; on Azure."""
    # Before the image is built, which may take a long time.
    terraform.require_program()
    image = ensure(job.root, gpu=job.machine.gpu)
    with build.in_use(build.place(job.root)):
        return execute_in(job, image)


def execute_in(job: Job, image: Image) -> Path:
    """Run the job in that image."""
    order = order_of(job)
    attached = volumes.Volumes(
        image=image.disk, inputs=job.work / "inputs.img", output=job.work / "output.img"
    )
    volumes.make_volumes(job, image, attached)
    vhd.widen(job.work / "inputs.img", verity.BLOCK)
    return carry_out(job, image, order)


def order_of(job: Job) -> run.Order:
    """What aicert.toml asks of Azure."""
    machine = job.machine
    price = cast(float | None, machine.options["hourly-price"])
    return run.Order(
        run=job.run,
        region=cast(str, machine.options["region"]),
        size=cast(str, machine.options["size"]),
        hourly_price=price,
        budget=cast(int, machine.options["budget"]),
        output_gib=output_gib(machine),
        limit_s=machine.time_limit + run.BOOT_S,
        keep=job.keep,
    )


def output_gib(machine: Machine) -> int:
    """Managed disks have whole GiB."""
    return -(-(machine.scratch + volumes.OUTPUT_ROOM) // vhd.GIB)


def carry_out(job: Job, image: Image, order: run.Order) -> Path:
    """Have the volumes in the job's folder run; the folder of results. Nothing is left behind."""
    out = job.work / "out"
    out.mkdir()
    output = job.work / "output.img"
    follower = Follower(job.run)
    tail = ""

    def follow(stream: ConsoleStream) -> None:
        nonlocal tail
        try:
            follower.follow(stream)
        finally:
            tail = stream.tail()
            (job.work.parent / console.CONSOLE).write_text(tail + "\n", encoding="utf-8")
        follower.finish(0, tail)

    with termination_raises():
        run.execute(
            job.root / run.HOME,
            order,
            image=image.disk,
            inputs=job.work / "inputs.img",
            output=output,
            follow=follow,
        )
    try:
        volumes.read_output(output, out)
    except AicertError as error:
        hint = f"less {job.work.parent / console.CONSOLE}"
        raise ToolError(explained(error.message, tail.splitlines()), hint=hint) from None
    if not (out / machine_io.CERTIFICATE).is_file():
        raise ToolError("the machine's results hold no certificate")
    volumes.attach_lock(out / machine_io.CERTIFICATE, image)
    shutil.copyfile(out / machine_io.CERTIFICATE, job.root / LAST)
    return out


def leftovers(root: Path, *, ask: bool) -> list[Leftover]:
    """What runs left on Azure that were cut off here; if told to `ask`, all with our tag."""
    return clean.look(root, ask_azure=ask)


def end(items: list[Leftover]) -> None:
    """Remove each, also after one failed; the first failure is raised at the end."""
    clean.end(items)
