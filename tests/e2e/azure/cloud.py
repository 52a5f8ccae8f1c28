"""Play Azure's control plane and its machine: `cloud.py WORLD WHAT create|destroy [GIB]`.

Blob storage is Azurite's; the client is Azure's and terraform is the real one. In the folder WORLD,
`left/` has one file for each thing that exists and would be paid for, `fail.json` says which step
fails with which words, and `play` says how the machine behaves.
"""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from aicert.lease import serve_settings
from rules.machines.azure import client
from rules.machines.azure.vhd import FOOTER, GIB

HEADER = b"aicert output 1\n"
EVENT = b'{"event": "training", "step": 1, "total": 2}\n'
POWER_DOWN = b"[   41.2] reboot: Power down\n"


def result(files: dict[str, bytes]) -> bytes:
    stream = HEADER
    for name, data in files.items():
        stream += b"file %d %s\n%s" % (len(data), name.encode(), data)
    return stream + b"end\n"


def read_disk(service: Any, name: str) -> bytes:
    data: bytes = service.get_blob_client("disks", name).download_blob().readall()
    assert data[-FOOTER:][:8] == b"conectix"
    return data[:-FOOTER]


def run_machine(world: Path, store: str, play: str) -> None:
    """Do at once what a machine does: leave the console and the output disk as it would."""
    service = client.service(store)
    if play == "serves":
        start_serving(world, read_disk(service, "inputs.vhd"))
        return
    console = b"" if play == "never boots" else b"\x1b[2J[    0.1] Linux version 6.12\n" + EVENT
    if play == "interrupted":
        (world / "stopped-here").write_text(str(os.getpid()))
        signal.pause()
    if play == "good":
        image, inputs = read_disk(service, "image.vhd"), read_disk(service, "inputs.vhd")
        assert len(inputs) % GIB == 0
        trailer = inputs[-4096:].rstrip(b"\0")
        seen = hashlib.sha256(image).hexdigest().encode() + b"\n" + trailer
        files = {"certificate.json": (world / "certificate.json").read_bytes(), "seen": seen}
        write(service, result(files | {"outputs/model/weights": b"w" * 5_000_000}))
    if play == "hostile":
        write(service, HEADER + b"file 3 ../../../escaped\nabcend\n")
    if play == "refused":
        console += b'{"event": "error", "message": "input alpaca: other bytes", "exitCode": 2}\n'
    if play == "falls silent":
        (world / "off").touch()
    if play == "panic":
        console += b"[   12.0] Kernel panic - not syncing: dm-verity device corrupted\n"
    elif play not in ("never boots", "hangs", "falls silent"):
        console += POWER_DOWN
    if console:
        container = service.get_container_client("bootdiagnostics-aicert-1")
        if not container.exists():
            container.create_container()
        # Boot diagnostics keeps the console in a page blob, with zeroes where nothing was written
        # yet.
        blob = container.get_blob_client("aicert.1.serialconsole.log")
        blob.create_page_blob(1 << 20)
        blob.upload_page(console.ljust(-(-len(console) // 512) * 512, b"\0"), 0, _up(len(console)))


def start_serving(world: Path, inputs: bytes) -> None:
    """The serving machine as a process: everything but the boot is what the image runs. Its volume
    is an archive, and its address that of this computer.
    """
    with tarfile.open(fileobj=io.BytesIO(inputs)) as archive:
        archive.extractall(world / "volume", filter="data")
    settings = serve_settings.parse((world / "volume" / serve_settings.SETTINGS).read_bytes())
    words: list[str] = json.loads((world / "machine.json").read_text())
    words += ["--bundle", str(world / "volume" / serve_settings.BUNDLE)]
    words += ["--port", str(settings.port)]
    words += ["--courier-key", str(settings.courier), "--threads", str(settings.threads)]
    with (world / "console").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=world, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    (world / "pid").write_text(str(process.pid))


def stop_serving(world: Path) -> None:
    """What Azure does to a machine that is removed."""
    try:
        os.kill(int((world / "pid").read_text()), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        # It never started, or it has powered off.
        return


def write(service: Any, stream: bytes) -> None:
    blob = service.get_blob_client("disks", "output")
    for at in range(0, len(stream), 4 << 20):
        part = stream[at : at + (4 << 20)]
        blob.upload_page(part.ljust(_up(len(part)), b"\0"), at, _up(len(part)))


def _up(size: int) -> int:
    return -(-size // 512) * 512


def main(world: Path, what: str, action: str, gib: int) -> None:
    fail = json.loads((world / "fail.json").read_text())
    store, mark = (world / "store").read_text(), world / "left" / what
    step = what if action == "create" else f"destroy {what}"
    if step in fail:
        sys.exit(fail[step])
    with (world / "log").open("a") as log:
        log.write(f"{step}\n")
    if action == "destroy":
        if what == "machine":
            stop_serving(world)
        # The account stands for the resource group. Destroying it also destroys whatever is still
        # in it, as the provider is configured to do (terraform/azure/versions.tf).
        for path in (world / "left").iterdir() if what == "account" else [mark]:
            path.unlink()
        return
    mark.touch()
    service = client.service(store)
    if what == "account":
        for container in service.list_containers():
            service.delete_container(container.name)
        service.create_container("disks")
    if what == "disks":
        service.get_blob_client("disks", "output").create_page_blob(gib * GIB + FOOTER)
    if what == "machine":
        run_machine(world, store, (world / "play").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int((sys.argv[4:] or ["0"])[0]))
