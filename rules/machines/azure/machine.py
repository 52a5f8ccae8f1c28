"""The `azure` machine: the run in the measured image, on a Trusted Launch machine of Azure.

Image, volumes and runner are the same as on `qemu`. The TPM is the cloud's, and that gives the
certificate its value (docs/spec/tiers.md). None of this has run on Azure itself yet: docs/azure.md
lists what was tested instead.
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

# The last evidence received, accepted or not, for calibration.
LAST = run.HOME / "last-certificate.json"


def execute(job: Job) -> Path:
    """Run the job on Azure in this checkout's image."""
    # Fail before the image is built, which may take a long time.
    terraform.require_program()
    image = ensure(job.root, gpu=job.machine.gpu, tools=job.machine.tools)
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
    """Return the settings for Azure in aicert.toml."""
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
    """Run the volumes in the job's folder. Returns the folder of results. Nothing is
    left behind.
    """
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
        raise ToolError("the machine's results contain no certificate")
    volumes.attach_lock(out / machine_io.CERTIFICATE, image)
    shutil.copyfile(out / machine_io.CERTIFICATE, job.root / LAST)
    return out


def leftovers(root: Path, *, ask: bool) -> list[Leftover]:
    """Return what interrupted runs of this checkout left on Azure; with `ask`, everything with our
    tag.
    """
    return clean.look(root, ask_azure=ask)


def end(items: list[Leftover]) -> None:
    """Remove each one, even after a failure. The first failure is raised at the end."""
    clean.end(items)
