"""Forged certificates of second runs: each differs from an honest one in what its name says.

They are not rows of the attack table: no policy asks for a second run, so no check refuses one.
`tests/unit/aicert/appraisal/test_reproductions.py` and the command line's tests judge them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aicert.appraisal.policy import Policy
from aicert.formats import image_lock
from aicert.formats.digest import Digest
from tests.adversarial.ca_forge import ec_key, rsa_key
from tests.adversarial.forger import BOOT, VERITY, Scene

Change = Callable[[Scene], object]
OTHER_IMAGE = image_lock.emit(
    name="machine-2",
    disk=Digest("sha256", "ef" * 32),
    pcrs=BOOT | {11: b"\x22" * 32},
    verity=VERITY,
)


def again(kind: str = "qemu", *changes: Change) -> Scene:
    """Return a second run of the same inputs as `Scene(kind, 2)`, with the same bytes.

    What `changes` leave alone is the first run's.
    """
    scene = Scene(kind, 2)
    for change in (another_run, *changes):
        change(scene)
    return scene


def another_run(scene: Scene) -> None:
    """Replace what is unique to each run: the key, the nonce and the time."""
    scene.run_key = ec_key("run key of the second run")
    scene.put("nonce", bytes(32))

    def later(statement: Any) -> Any:
        return replace(statement, started="2026-08-21T10:00:00Z", finished="2026-08-21T10:10:00Z")

    scene.edit("statement", later)


def another_key(scene: Scene) -> None:
    """Use the TPM of another machine on the same platform."""
    scene.ak = rsa_key("ak of the second machine")


def another_owner(scene: Scene) -> None:
    """Use another machine's TPM and another owner's CA."""
    another_key(scene)
    scene.ca_key, scene.ca_name = ec_key("another owner's ca"), "another platform CA"


def another_image(scene: Scene) -> None:
    scene.put("image_lock", OTHER_IMAGE)
    scene.set_pcr(11, b"\x22" * 32)


def renamed_image(scene: Scene) -> None:
    """Put the same image under another lock, which a careless policy accepts too."""
    lock = image_lock.emit(
        name="machine-2", disk=Digest("sha256", "ee" * 32), pcrs=BOOT, verity=VERITY
    )
    scene.put("image_lock", lock)


def policy_of(*scenes: Scene) -> Policy:
    """Return a policy that accepts the roots and images of all these scenes."""
    first, *others = (scene.get("policy") for scene in scenes)
    locks = [scene.get("image_lock") for scene in scenes]
    accepted = {image_lock.parse(lock).digest for lock in locks if lock is not None}
    roots = dict.fromkeys(root for one in (first, *others) for root in one.roots)
    policy: Policy = replace(first, roots=tuple(roots), accepted=frozenset(accepted))
    return policy
