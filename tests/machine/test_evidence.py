"""Real boots of the real image: the quoted registers are the predicted ones, whatever the host
attaches.

Most runs are stopped after a second of training: such a machine still quotes, and no policy accepts
a run that did not end well.
"""

import hashlib
import json
import socket
import subprocess
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest

from aicert.formats import image_lock
from rules.image import disk as image_disk
from rules.image import pcrs
from rules.image.layers import STUB
from rules.image.sandbox import Sandbox
from rules.image.store import Image
from tests.e2e.conftest import REPOSITORY
from tests.machine.conftest import Boot, Built, appraised, console, verdicts

pytestmark = [pytest.mark.slow, pytest.mark.machine]
CHECKS = ("boot.image", "boot.pcr4", "boot.pcr11", "boot.pcr12-13", "boot.firmware", "inputs.pcr14")
# systemd would find and mount a partition of this type (Discoverable Partitions Specification).
VAR = uuid.UUID("4d21b016-b534-45c2-a9fb-5c16e091fd2d")
CREDENTIALS = [
    *("-fw_cfg", "name=opt/io.systemd.credentials/systemd.extra-unit.x.service,string=x"),
    *("-smbios", "type=11,value=io.systemd.credential:passwd.hashed-password.root="),
]


def test_the_committed_lock_is_of_this_checkout(built: Built) -> None:
    if built.fresh:
        pytest.skip("the committed lock's bytes are gone: nothing was compared (see the summary)")
    committed = (REPOSITORY / "lockfiles/image.lock.toml").read_bytes()
    assert committed == built.image.lock, "stale: ./doit image, review, commit"


def var_disk(image: Image, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a disk with a partition that calls itself /var, and a file system in it."""
    stage, system = folder / "var", folder / "var.img"
    stage.mkdir()
    (stage / "file").write_text("x")
    sandbox = Sandbox(tree=image.tools, readable=[stage], writable=[folder])
    sandbox.run(["mkfs.erofs", "--quiet", str(system), str(stage)])
    with monkeypatch.context() as patch:
        patch.setattr(image_disk, "_ESP_TYPE", VAR)
        image_disk.assemble([("var", system)], folder / "var.raw")
    return folder / "var.raw"


class Typing(threading.Thread):
    """Types on the console and on the keyboard while the machine runs."""

    def __init__(self, work: Path) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._over = threading.Event()
        self.typed = 0

    def run(self) -> None:
        while not self._over.wait(0.5):
            try:
                self._type()
            except OSError:
                continue

    def _type(self) -> None:
        with self._connected("console.sock") as line, self._connected("qmp.sock") as monitor:
            with monitor.makefile("rw") as talk:
                talk.readline()
                self._ask(talk, "qmp_capabilities")
                while not self._over.wait(1.0):
                    # Escape is left out, because it would make the firmware wait in its menus. So
                    # are the letters that reboot or power off (b, o): a break may overtake what was
                    # typed, and the host may end the machine anyway.
                    line.send(b"\n\x03\nid\n\nexit\n")
                    # The "magic" key makes the kernel terminate and kill what runs.
                    for key in (b"e", b"i"):
                        self._ask(talk, "chardev-send-break", id="console")
                        line.send(key)
                    keys = [{"type": "qcode", "data": key} for key in ("alt", "sysrq", "e")]
                    self._ask(talk, "send-key", keys=keys)
                    self.typed += 1

    def _connected(self, name: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        try:
            connection.connect(str(self._work / name))
        except OSError:
            connection.close()
            raise
        return connection

    def _ask(self, talk: TextIO, command: str, **arguments: object) -> None:
        talk.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        talk.flush()
        while line := talk.readline():
            answer = json.loads(line)
            assert "error" not in answer, answer
            if "return" in answer:
                return
        raise ConnectionError("the machine has ended")

    def stop(self) -> None:
        self._over.set()
        self.join(600)


def with_keyboard(words: list[str]) -> list[str]:
    at = words.index("-serial")
    chardev = "socket,id=console,path=console.sock,server=on,wait=off,logfile=console"
    words[at : at + 2] = ["-chardev", chardev, "-serial", "chardev:console"]
    return [*words, "-qmp", "unix:qmp.sock,server=on,wait=off"]


def test_what_the_host_adds_changes_nothing_and_a_run_cut_short_never_passes(
    boot: Boot, tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    var = var_disk(image, tmp_path, monkeypatch)
    disk = ["-drive", "if=none,id=var,file=var.raw,format=raw",
            "-device", "virtio-blk-pci,drive=var,serial=var,addr=9"]  # fmt: skip
    keys = Typing(tmp_path / "work")

    def before(_: Path) -> None:
        var.rename(tmp_path / "work/var.raw")
        keys.start()

    try:
        certificate = boot([*CREDENTIALS, *disk], before=before, edit=with_keyboard)
    finally:
        keys.stop()
    by_check = verdicts(appraised(certificate, tmp_path, image))
    assert {check: by_check[check] for check in CHECKS} == dict.fromkeys(CHECKS, "ok")
    assert by_check["outputs.exit"] == "failed"
    assert keys.typed > 3
    assert "aicert-init" not in console(tmp_path)


def test_more_of_a_command_line_by_smbios_is_refused(
    boot: Boot, tmp_path: Path, image: Image
) -> None:
    value = "type=11,value=io.systemd.stub.kernel-cmdline-extra=init=/bin/sh"
    certificate = boot(["-smbios", value])
    assert verdicts(appraised(certificate, tmp_path, image))["boot.pcr12-13"] == "failed"


def changed_disk(image: Image, folder: Path, files: dict[str, Path]) -> Image:
    """Make a copy of the disk with additional or changed files in its EFI system partition."""
    disk = folder / "disk.raw"
    subprocess.run(["cp", "--sparse=always", image.disk, disk], check=True)
    sandbox = Sandbox(tree=image.tools, readable=list(files.values()), writable=[folder])
    partition = f"{disk}@@1M"
    for parent in sorted({name.rpartition("/")[0] for name in files} - {"/EFI/BOOT"}):
        sandbox.run(["mmd", "-i", partition, f"::{parent}"])
    for name, path in files.items():
        sandbox.run(["mcopy", "-o", "-i", partition, str(path), f"::{name}"])
    return replace(image, disk=disk)


def ukify(image: Image, folder: Path, *words: str) -> Path:
    target = folder / "made.efi"
    Sandbox(tree=image.tools, readable=[image.folder], writable=[folder]).run(
        ["ukify", "build", *words, f"--output={target}"]
    )
    return target


@pytest.mark.parametrize(
    ("name", "pcr"), [("a.addon.efi", 12), ("b.cred", 12), ("c.sysext.raw", 13)]
)
def test_what_the_stub_takes_from_the_disk_is_refused(
    boot: Boot, tmp_path: Path, image: Image, name: str, pcr: int
) -> None:
    """A longer command line, a credential or a system extension is refused, each by itself."""
    path = tmp_path / name
    if name.endswith(".efi"):
        stub = "/usr/lib/systemd/boot/efi/addonx64.efi.stub"
        path = ukify(image, tmp_path, "--cmdline=init=/bin/sh", f"--stub={stub}")
    else:
        path.write_bytes(b"x" * 4096)
    files = {f"/EFI/BOOT/BOOTX64.EFI.extra.d/{name}": path}
    certificate = boot(image=changed_disk(image, tmp_path, files))
    quoted = certificate.evidence.pcrs
    assert {index for index in (12, 13) if quoted[index] == bytes(32)} == {12, 13} - {pcr}
    by_check = verdicts(appraised(certificate, tmp_path, image))
    assert (by_check["boot.image"], by_check["boot.pcr12-13"]) == ("ok", "failed")


def test_another_command_line_is_refused(boot: Boot, tmp_path: Path, image: Image) -> None:
    parts = pcrs.parse((image.folder / "uki.efi").read_bytes()).sections
    for section in parts:
        (tmp_path / section.name.removeprefix(".")).write_bytes(section.content)
    line = (tmp_path / "cmdline").read_bytes().rstrip(b"\0").decode().replace("quiet", "debug")
    words = [f"--linux={tmp_path / 'linux'}", f"--initrd={tmp_path / 'initrd'}"]
    uki = ukify(image, tmp_path, *words, f"--cmdline={line}", f"--stub={STUB}")
    certificate = boot(image=changed_disk(image, tmp_path, {"/EFI/BOOT/BOOTX64.EFI": uki}))
    by_check = verdicts(appraised(certificate, tmp_path, image))
    assert (by_check["boot.image"], by_check["boot.pcr4"], by_check["boot.pcr11"]) == (
        "ok", "failed", "failed",
    )  # fmt: skip


def test_pcr11_is_what_systemd_measure_says(image: Image, tmp_path: Path) -> None:
    data = (image.folder / "uki.efi").read_bytes()
    words = ["/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256"]
    words.append("--phase=enter-initrd")
    for section in pcrs.parse(data).sections:
        if section.name in pcrs.MEASURED:
            path = tmp_path / section.name.removeprefix(".")
            path.write_bytes(section.content)
            words.append(f"--{path.name}={path}")
    output = Sandbox(tree=image.tools, readable=[tmp_path]).run(words)
    # Our machine measures no boot phases; the tool always adds one.
    after = hashlib.sha256(
        pcrs.predict(data)[11] + hashlib.sha256(b"enter-initrd").digest()
    ).hexdigest()
    assert f"11:sha256={after}" in output


def test_lock_is_of_the_image(image: Image) -> None:
    lock = image_lock.parse(image.lock)
    digest = subprocess.run(["sha256sum", image.disk], capture_output=True, text=True, check=True)
    assert lock.disk.hex == digest.stdout.split()[0]
    assert lock.pcrs == pcrs.predict((image.folder / "uki.efi").read_bytes())
