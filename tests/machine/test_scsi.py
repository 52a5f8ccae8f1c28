"""The image on a machine with SCSI disks, like a cloud's: it finds them by their numbers, measures
the same registers, and writes events to the console, because there is no port for them.

virtio-scsi stands for Azure's storage controller, which qemu does not have.
"""

import json
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedRWPair
from pathlib import Path

import pytest

from aicert.formats import image_lock
from aicert.formats.certificate import parse
from rules.image import verity
from rules.image.store import Image
from rules.machines import volumes
from rules.machines.azure import vhd
from rules.machines.machine import Job
from rules.machines.qemu import command as qemu_command
from rules.machines.qemu import console as qemu_console
from rules.machines.qemu import machine
from tests.machine.conftest import Built, make_job

pytestmark = [pytest.mark.slow, pytest.mark.machine]
Words = Callable[[list[str]], list[str]]
FLAGS = ("-nodefaults", "-no-user-config", "-no-reboot")
LUNS = {"image": 0, "inputs": 10, "output": 11}
_DISK = re.compile(r"virtio-blk-pci,drive=(\w+),serial=[\w-]+,addr=\d+(.*)")


def as_scsi(words: list[str]) -> list[str]:
    """Return qemu's words with each disk on one SCSI controller, and without the port for
    events.
    """
    there = ["-device", "virtio-scsi-pci,id=scsi,addr=4"]
    for word in words:
        disk = _DISK.fullmatch(word)
        if disk:
            place = f"bus=scsi.0,channel=0,scsi-id=0,lun={LUNS[disk[1]]}"
            there.append(f"scsi-hd,drive={disk[1]},{place}{disk[2]}")
        else:
            there.append(word)
    kept: list[str] = []
    for option, value in zip(there[::2], there[1::2], strict=True):
        if "id=events" not in value and "virtserialport" not in value:
            kept += [option, value]
    return kept


@pytest.fixture
def job(built: Built, tmp_path: Path) -> Job:
    """Return a run that is stopped after a second of training: the machine still measures and
    quotes.
    """
    return make_job(built.checkout.root, tmp_path)


@pytest.fixture
def boot(job: Job, image: Image, monkeypatch: pytest.MonkeyPatch) -> Callable[[Words], None]:
    """Return a function that boots with SCSI disks, and checks that the quote has the predicted
    registers and the console has the events.
    """

    def run(edit: Words) -> None:
        command, make = qemu_command.command, volumes.make_inputs

        def words(*args: object, **kwargs: object) -> list[str]:
            program, *rest = command(*args, **kwargs)  # type: ignore[arg-type]  # passed through
            flags = [word for word in rest if word in FLAGS]
            return [
                program, *flags, *edit(as_scsi([word for word in rest if word not in flags])),
            ]  # fmt: skip

        def widened(*args: object, **kwargs: object) -> None:
            make(*args, **kwargs)  # type: ignore[arg-type]  # passed through
            # A managed disk looks like this: whole GiB, with the root hash still in the last block.
            vhd.widen(job.work / "inputs.img", verity.BLOCK)

        monkeypatch.setattr(qemu_command, "command", words)
        monkeypatch.setattr(volumes, "make_inputs", widened)
        out = machine.execute_in(job, image)
        evidence = parse((out / "certificate.json").read_bytes()).evidence
        predicted = image_lock.parse(image.lock).pcrs
        assert {index: evidence.pcrs[index] for index in predicted} == predicted
        console = (job.work.parent / qemu_console.CONSOLE).read_bytes()
        assert b'{"event":"hashing"' in console
        assert b"reboot: Power down" in console

    return run


def test_disks_by_number_and_events_on_the_console(boot: Callable[[Words], None]) -> None:
    boot(list)


def test_disks_that_are_attached_to_a_machine_that_runs(
    boot: Callable[[Words], None], job: Job
) -> None:
    """Attach disks as terraform does: output first, inputs last, both after the machine has
    started.
    """
    late: list[str] = []
    over = threading.Event()

    def without_data_disks(words: list[str]) -> list[str]:
        kept = []
        for option, value in zip(words[::2], words[1::2], strict=True):
            if value.startswith("scsi-hd,") and not value.startswith("scsi-hd,drive=image"):
                late.append(value)
            else:
                kept += [option, value]
        return [*kept, "-qmp", "unix:qmp.sock,server=on,wait=off"]

    def attach() -> None:
        console = job.work / qemu_console.CONSOLE
        while not console.exists() or b"starting Boot" not in console.read_bytes():
            if over.wait(0.2):
                return
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(job.work / "qmp.sock"))
            with monitor.makefile("rwb") as stream:
                stream.readline()
                ask(stream, "qmp_capabilities", {})
                # Nothing shows from outside that the init has begun to wait.
                for value in reversed(late):
                    over.wait(10)
                    facts = dict(item.split("=", 1) for item in value.split(",")[1:])
                    ask(stream, "device_add", {"driver": "scsi-hd", **facts})

    with ThreadPoolExecutor(1) as pool:
        attached = pool.submit(attach)
        try:
            boot(without_data_disks)
        finally:
            # Do not wait for a machine that did not boot.
            over.set()
        attached.result()
    assert [value.split(",")[1] for value in late] == ["drive=inputs", "drive=output"]


def ask(stream: BufferedRWPair, command: str, arguments: dict[str, str]) -> None:
    numbers = {key: int(value) for key, value in arguments.items() if value.isdigit()}
    request = {"execute": command, "arguments": {**arguments, **numbers}}
    stream.write(json.dumps(request).encode() + b"\n")
    stream.flush()
    while "return" not in (answer := json.loads(stream.readline())):
        assert "error" not in answer, answer
