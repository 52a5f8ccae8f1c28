"""Attacks on the machine: the builder's own systems, firmware and image locks."""

from collections.abc import Callable
from dataclasses import replace

from aicert.appraisal.policy import Firmware
from aicert.formats import image_lock
from aicert.formats.digest import Digest, of_bytes
from tests.adversarial.attacks import Attack
from tests.adversarial.forger import BOOT, FIRMWARE, VERITY, Scene

OWN_BOOT = BOOT | {11: b"\x66" * 32}


def own_lock(scene: Scene) -> bytes:
    disk = Digest("sha256", "66" * 32)
    return image_lock.emit(name="machine", disk=disk, pcrs=OWN_BOOT, verity=VERITY)


def own_image(scene: Scene) -> None:
    """Boot the builder's own image, with a lock that matches it exactly."""
    scene.edit("pcrs", lambda pcrs: pcrs | OWN_BOOT)
    scene.put("image_lock", own_lock(scene))


def own_image_under_accepted_lock(scene: Scene) -> None:
    scene.edit("pcrs", lambda pcrs: pcrs | OWN_BOOT)


def revoked(scene: Scene) -> None:
    digest = of_bytes(scene.get("image_lock"))
    scene.edit("policy", lambda policy: replace(policy, revoked=frozenset((digest,))))


def other_verity(scene: Scene) -> None:
    other = {"root": Digest("sha256", "99" * 32)}
    scene.edit("statement", lambda statement: replace(statement, builder=other))


def no_verity(scene: Scene) -> None:
    scene.edit("statement", lambda statement: replace(statement, builder={}))


def firmware_sets(family: str) -> Callable[[Scene], object]:
    """Take PCR 0 from one firmware set of the policy and the other PCRs from another set."""
    new = replace(Firmware(name="new", pcrs=FIRMWARE | {0: b"\xee" * 32}), family=family)
    old = Firmware(name="old", family=family, pcrs=FIRMWARE | {7: b"\xdd" * 32})

    def change(scene: Scene) -> None:
        scene.edit("policy", lambda policy: replace(policy, firmware=(old, new)))
        scene.edit("pcrs", lambda pcrs: pcrs | {0: b"\xee" * 32, 7: b"\xdd" * 32})

    return change


def firmware(index: int) -> "object":
    return lambda scene: scene.set_pcr(index, b"\xee" * 32)


ATTACKS = (
    Attack("own image with its own lock", "boot.image", own_image, "cloud"),
    Attack("own image with its own lock, measured-vm", "boot.image", own_image, "qemu"),
    Attack("image revoked", "boot.image", revoked, "cloud"),
    Attack("statement names other dm-verity roots", "boot.image", other_verity, "cloud"),
    Attack("statement names no dm-verity root", "boot.image", no_verity, "cloud"),
    Attack("another boot loader first", "boot.pcr4", lambda s: s.set_pcr(4, b"\x01" * 32), "cloud"),
    Attack(
        "own image under an accepted lock", "boot.pcr11", own_image_under_accepted_lock, "cloud"
    ),
    Attack("command line addon", "boot.pcr12-13", lambda s: s.set_pcr(12, b"\x01" * 32), "cloud"),
    Attack("system extension", "boot.pcr12-13", lambda s: s.set_pcr(13, b"\x01" * 32), "cloud"),
    Attack("own firmware", "boot.firmware", lambda s: s.set_pcr(0, b"\xee" * 32), "cloud"),
    Attack("own boot variables", "boot.firmware", lambda s: s.set_pcr(1, b"\xee" * 32), "qemu"),
    Attack("option ROM", "boot.firmware", lambda s: s.set_pcr(2, b"\xee" * 32), "cloud"),
    Attack(
        "option ROM configuration", "boot.firmware", lambda s: s.set_pcr(3, b"\xee" * 32), "cloud"
    ),
    Attack("firmware mixed of two sets", "boot.firmware", firmware_sets(""), "cloud"),
    Attack("secure boot keys", "boot.firmware", lambda s: s.set_pcr(7, b"\xee" * 32), "cloud"),
)
