"""The measured machine next to a stock Debian 13 under the same emulator, and its image's cost.

The stock system is Debian 13 with systemd and the same kernel, from today's mirrors, on ext4, with
the initrd that Debian makes. Firmware starts its kernel directly, as it does ours: no boot loader
and no waiting for a network counts against it. It has booted at its login prompt, ours at the
runner's first event.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aicert.errors import AicertError, ToolError
from aicert.files.tree import read_tree
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from rules.host import progress
from rules.host.work import remove
from rules.image import build, pcrs, tasks
from rules.image import disk as image_disk
from rules.image.layers import STUB
from rules.image.sandbox import Sandbox
from rules.image.store import Image
from rules.image.verity import BLOCK
from rules.machines import volumes as qemu_volumes
from rules.machines.events import Follower
from rules.machines.machine import Job
from rules.machines.qemu import accelerator as qemu_accelerator
from rules.machines.qemu import console as qemu_console
from rules.machines.qemu import machine
from rules.machines.qemu.command import VARIABLES, command, start
from rules.project import config, lock
from rules.project.results import read_certificate

RUN, OUTSIDE = "tiny-alpaca-measured", "tiny-alpaca"
PROMPT = b"login:"
_STOCK = """\
[Distribution]
Distribution=debian
Release=trixie
Architecture=x86-64
[Output]
Format=directory
Output=stock
[Content]
Bootable=no
Packages=
        dbus
        initramfs-tools
        linux-image-cloud-amd64
        login
        systemd
        systemd-sysv
        udev
"""
# mkosi otherwise prevents packages from making one.
_INITRD = "#!/bin/sh\nexec update-initramfs -c -k all\n"
_WAIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of booting and of building: seconds and bytes, and the accelerator they were measured
    with.
    """

    accelerator: str
    ours: float
    stock: float
    layer: float
    nothing: float
    volume: float
    hashing: float
    sizes: dict[str, int]


def measure(root: Path, folder: Path, gigabytes: int = 1) -> Costs:
    """Measure everything in `folder`, which is empty and on the repository's disk."""
    image = tasks.ensure(root)
    where = build.place(root)
    with build.in_use(where):
        accelerator = qemu_accelerator.choose(image)
        volume, hashing = _input_volume(image, folder, gigabytes << 30)
        return Costs(
            accelerator=accelerator,
            ours=_boot_ours(root, image, folder / "ours"),
            stock=_boot_stock(where, image, folder, accelerator),
            layer=_layer(root, where, image),
            nothing=_from_nothing(root),
            volume=volume,
            hashing=hashing,
            sizes=_sizes(image),
        )


def training_seconds(root: Path) -> tuple[float, float] | None:
    """Return the wall seconds of the same training in the machine and outside, from the
    certificates here.
    """
    measured = []
    for run in (RUN, OUTSIDE):
        try:
            statement = parse_statement(read_certificate(root, run).envelope.payload)
        except AicertError:
            return None
        seconds = parse_report(statement.report).number("wallSeconds")
        if seconds is None:
            return None
        measured.append(seconds)
    return measured[0], measured[1]


def _boot_ours(root: Path, image: Image, folder: Path) -> float:
    """Boot our image. Return the seconds from the start of qemu to the runner's first event, when
    the machine is stopped.
    """
    run = config.load(root).run(RUN)
    limited = replace(run.machine, time_limit=1)
    current = lock.current(root, run)
    (folder / "work").mkdir(parents=True)
    began: list[float] = []
    heard: list[float] = []

    class Listening(Follower):
        def _show(self, event: dict[str, object]) -> None:
            heard.append(time.monotonic())
            super()._show(event)

    def starting(*args: object, **kwargs: object) -> "subprocess.Popen[bytes]":
        began.append(time.monotonic())
        return start(*args, **kwargs)  # type: ignore[arg-type]  # passed through

    job = Job(
        root=folder, run=RUN, machine=limited, lockfile=current.data, inputs=current.paths,
        nonce=os.urandom(32), training_env=None, work=folder / "work",
    )  # fmt: skip
    with _exchanged("start", starting), _exchanged("Follower", Listening):
        machine.execute_in(job, image)
    return heard[0] - began[0]


@contextlib.contextmanager
def _exchanged(name: str, value: object) -> Iterator[None]:
    before = getattr(machine, name)
    setattr(machine, name, value)
    try:
        yield
    finally:
        setattr(machine, name, before)


def _boot_stock(where: build.Place, image: Image, folder: Path, accelerator: str) -> float:
    """Boot the stock system. Return the seconds from the start of qemu to the login prompt on the
    console.
    """
    disk = _stock_disk(where, image, folder / "stock")
    work = folder / "work"
    work.mkdir()
    shutil.copyfile(image.tools / VARIABLES, work / "variables.fd")
    volumes = qemu_volumes.Volumes(image=disk)
    words = command(volumes, accelerator=accelerator, memory=2 << 30, cpus=2, control=None)
    # The stock system writes to its disk.
    words = [word.replace("readonly=on,werror", "snapshot=on,werror") for word in words]
    console = work / qemu_console.CONSOLE
    began = time.monotonic()
    process = start(work, image, volumes, words, accelerator)
    try:
        while not console.is_file() or PROMPT not in console.read_bytes():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if process.returncode is not None or time.monotonic() - began > _WAIT_S:
                raise ToolError(
                    f"the stock system showed no prompt\n{qemu_console.console_tail(work)}"
                )
        return time.monotonic() - began
    finally:
        process.kill()
        process.wait()


def _stock_disk(where: build.Place, image: Image, folder: Path) -> Path:
    source, tree = folder / "source", folder / "tree"
    source.mkdir(parents=True)
    (source / "mkosi.conf").write_text(_STOCK, encoding="ascii")
    script = source / "mkosi.postinst.chroot"
    script.write_text(_INITRD, encoding="ascii")
    script.chmod(0o755)
    lock = build.read_lock(where.root)
    if lock is None:
        raise ToolError("no image lock", hint="./doit image")
    sources = where.apt(build.TOOLS_RELEASE).sources
    with build.only_builder(where):
        build.mkosi_of(where, lock.packages).build(source, tree, sources=sources, tools=image.tools)
    (kernel,), (initrd,) = (
        sorted((tree / "boot").glob(f"{n}-*")) for n in ("vmlinuz", "initrd.img")
    )
    sandbox = Sandbox(tree=image.tools, readable=[tree], writable=[folder])
    uki = folder / "uki.efi"
    # A fresh system would ask for its locale first, and wait.
    line = "console=ttyS0 quiet root=/dev/vda2 rw systemd.firstboot=no"
    words = ["ukify", "build", f"--linux={kernel}", f"--initrd={initrd}", f"--stub={STUB}"]
    sandbox.run([*words, f"--cmdline={line}", f"--output={uki}"])
    system = folder / "root.img"
    with system.open("wb") as file:
        file.truncate(2 << 30)
    done = subprocess.run(["mkfs.ext4", "-q", "-d", tree, system], capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"mkfs.ext4 failed\n{done.stderr}", hint="apt-get install e2fsprogs")
    image_disk.system_partition(image.tools, uki, folder / "esp.img")
    image_disk.assemble([("esp", folder / "esp.img"), ("root", system)], folder / "disk.raw")
    return folder / "disk.raw"


def _layer(root: Path, where: build.Place, image: Image) -> float:
    """Return the seconds to make the image after a change to the runner; everything below it
    exists.
    """
    kept = image.folder.with_name("kept.new")
    remove(kept)
    image.folder.rename(kept)
    began = time.monotonic()
    try:
        tasks.ensure(root)
        return time.monotonic() - began
    finally:
        remove(image.folder)
        kept.rename(image.folder)


def _from_nothing(root: Path) -> float:
    """Return the seconds to rebuild the same image from the locked bytes, which are here."""
    began = time.monotonic()
    tasks.reproduce(root)
    return time.monotonic() - began


def _input_volume(image: Image, folder: Path, size: int) -> tuple[float, float]:
    """Return the seconds to make the input volume from one large file, and to hash the file."""
    data = folder / "data"
    data.mkdir()
    with (data / "weights").open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    (folder / "volume").mkdir()
    read_tree(data)
    began = time.monotonic()
    read_tree(data, threads=1)
    hashed = time.monotonic()
    qemu_volumes.make_inputs(
        image.tools, folder / "volume", lockfile=b"", nonce=bytes(32), limits={},
        inputs={"data": data}, target=folder / "volume/inputs.img",
    )  # fmt: skip
    end = time.monotonic()
    remove(folder / "volume")
    remove(data)
    progress.say("measured: the input volume")
    return end - hashed, hashed - began


def _sizes(image: Image) -> dict[str, int]:
    lines = (image.folder / "root.manifest").read_text("utf-8").splitlines()
    sections = pcrs.parse((image.folder / "uki.efi").read_bytes()).sections
    (line,) = (section.content for section in sections if section.name == ".cmdline")
    volumes = re.findall(rb"aicert\.([a-z]+)=[0-9a-f]{64},([0-9]+)", line)
    return {
        **{f"{name.decode()} volume, bytes": int(blocks) * BLOCK for name, blocks in volumes},
        "disk.raw as it is stored, bytes": image.disk.stat().st_blocks * 512,
        "UKI, bytes": (image.folder / "uki.efi").stat().st_size,
        "files of the system": len(lines),
    }
