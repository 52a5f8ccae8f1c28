"""The image on a machine whose disks are SCSI disks, as a cloud's are: found by their numbers, the
same registers, and events on the console, since there is no port for them.

virtio-scsi stands for Azure's storage controller, which qemu does not have.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from aicert import image_lock
from aicert.certificate import parse
from rules import azure_vhd, config, example, image_tasks, image_verity, lock, qemu, qemu_volumes
from rules.local import Job

pytestmark = [pytest.mark.slow, pytest.mark.machine]
REPOSITORY = Path(__file__).resolve().parents[2]
LUNS = {"image": 0, "inputs": 10, "output": 11}
_DISK = re.compile(r"virtio-blk-pci,drive=(\w+),serial=[\w-]+,addr=\d+(.*)")


def as_scsi(words: list[str]) -> list[str]:
    """qemu's words with each disk on one SCSI controller, and without the port for events."""
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


def test_disks_by_number_and_events_on_the_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example.make_example(REPOSITORY)
    image = image_tasks.ensure(REPOSITORY)
    run = config.load(REPOSITORY).run("tiny-alpaca")
    machine = replace(run.machine, driver="qemu", memory=3 << 30, time_limit=1, cpus=2)
    run = replace(run, machine=machine)
    work = tmp_path / "work"
    work.mkdir()
    job = Job(
        root=tmp_path, run=run, lock=lock.current(REPOSITORY, run), nonce=bytes(32),
        training_env=None, work=work,
    )  # fmt: skip
    command, make = qemu.command, qemu_volumes.make_inputs

    def words(*args: object, **kwargs: object) -> list[str]:
        program, *rest = command(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        flags = [word for word in rest if word in ("-nodefaults", "-no-user-config", "-no-reboot")]
        return [program, *flags, *as_scsi([word for word in rest if word not in flags])]

    def widened(*args: object, **kwargs: object) -> None:
        make(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        # As for a managed disk: whole GiB, the root hash still in the last block.
        azure_vhd.widen(work / "inputs.img", image_verity.BLOCK)

    monkeypatch.setattr(qemu, "command", words)
    monkeypatch.setattr(qemu_volumes, "make_inputs", widened)
    out = qemu.execute_in(job, image)
    evidence = parse((out / "certificate.json").read_bytes()).evidence
    predicted = image_lock.parse(image.lock).pcrs
    assert {index: evidence.pcrs[index] for index in predicted} == predicted
    console = (tmp_path / qemu.CONSOLE).read_bytes()
    assert b'{"event": "hashing"' in console or b'"event":"hashing"' in console
    assert b"reboot: Power down" in console
