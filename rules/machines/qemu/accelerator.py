"""Which accelerator boots the image on this computer: tested by booting it.

/dev/kvm may open and still be unable to run firmware (nested virtualisation that stops in 32-bit
code). So the image is booted under KVM without volumes; its init reports that one is missing, and
powers off. The result is stored with the image. Emulation always works.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from rules.host import progress
from rules.image.store import Image
from rules.machines.qemu.command import VARIABLES, command, start
from rules.machines.volumes import Volumes

KVM = Path("/dev/kvm")
# The init of the GPU image waits half a minute for a GPU before it says anything.
_PROBE_S = 45
_SAYS = b"aicert-init: "


def choose(image: Image) -> str:
    """Return `kvm` if the image really boots with it, otherwise `tcg`."""
    if not os.access(KVM, os.R_OK | os.W_OK):
        return "tcg"
    known = image.folder / f"accelerator-{_boot_id()}"
    try:
        return known.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    accelerator = "kvm" if _boots(image) else "tcg"
    if accelerator == "tcg":
        progress.say("KVM opens but does not boot the image here, so machines are emulated")
    known.write_text(accelerator, encoding="ascii")
    return accelerator


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _boots(image: Image) -> bool:
    with tempfile.TemporaryDirectory(dir=image.folder) as name:
        work = Path(name)
        (work / "variables.fd").write_bytes((image.tools / VARIABLES).read_bytes())
        volumes = Volumes(image=image.disk)
        words = command(volumes, accelerator="kvm", memory=1 << 30, cpus=1, control=None)
        process = start(work, image, volumes, words, "kvm")
        try:
            process.wait(_PROBE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        console = work / "console"
        return console.is_file() and _SAYS in console.read_bytes()
