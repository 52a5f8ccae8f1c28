from dataclasses import replace

import pytest

from aicert.appraisal.ak_chain import Root
from aicert.appraisal.evidence.accepted import GpuRoot, TdRoot, TimeAuthority
from aicert.appraisal.policy import Firmware, Policy
from aicert.errors import ConfigError, EvidenceError
from aicert.trust.built_in import (
    with_image,
)
from tests.adversarial import ca_forge
from tests.adversarial.ca_forge import ec_key, issue, root
from tests.adversarial.forger import BOOT, FIRMWARE, VERITY, Scene
from tests.adversarial.log_forge import LOG, signer
from tests.unit.aicert.formats.test_image_lock import written

LOCAL = root("local CA", ec_key("ca"), driver="local")
REAL = root("real CA", ec_key("ca"))


def refused(**fields: object) -> str:
    """Return the message that refuses a policy named p with these fields."""
    with pytest.raises(ConfigError) as caught:
        Policy(**{"name": "p", "tier": "vtpm", "roots": (), "images": {}, **fields})  # type: ignore[arg-type]  # each test names real fields
    return caught.value.message


def test_a_policy_cannot_raise_a_simulated_roots_tier() -> None:
    raised = Root(name="r", der=LOCAL, tier="vtpm", simulated="local")
    why = "policy p: root r is of simulated:local platforms, tier software, not vtpm"
    assert refused(roots=(raised,)) == why
    hidden = Root(name="r", der=LOCAL, tier="vtpm")
    assert refused(roots=(hidden,)) == why
    real = Root(name="r", der=REAL, tier="vtpm", simulated="local")
    assert refused(roots=(real,)) == (
        "policy p: root r is of simulated:None platforms, tier unknown, not vtpm"
    )


def test_policies_are_sound() -> None:
    good = Root(name="r", der=REAL, tier="vtpm")
    assert refused(roots=(good, good)) == "policy p: a root is given twice"
    assert refused(tier="best") == "policy p: no tier is named 'best'"
    other = Root(name="r", der=REAL, tier="x")
    assert refused(roots=(other,)) == "policy p: root r: no tier is named 'x'"
    maker = GpuRoot(name="g", root=REAL, rim_root=REAL)
    assert refused(gpus=(maker, maker)) == "policy p: two [[gpu]] have the same root: g"
    td = TdRoot(name="t", root=REAL, statuses=frozenset(("UpToDate",)))
    assert refused(td_roots=(td, td)) == "policy p: two [[tdx]] have the same root: t"
    stamps = TimeAuthority(name="a", root=REAL)
    assert refused(time_authorities=(stamps, stamps)) == (
        "policy p: two [[time-authority]] have the same root: a"
    )
    log = signer("log.example/a", LOG)
    for twice in ({"logs": (log, log)}, {"logs": (log,), "witnesses": (log,)}):
        assert refused(**twice) == ("policy p: two [[log]] or [[witness]] have the same key: log-a")
    weak = issue("x", ca_forge.rsa_key("weak", 1024), issuer="x", issuer_key=ec_key("ca"))
    with pytest.raises(EvidenceError, match=r"^root r: an RSA key of 1024 bits$"):
        refused(roots=(Root(name="r", der=weak, tier="vtpm"),))


def test_the_callers_own_lock_serves_where_the_certificate_carries_none() -> None:
    from aicert.formats.image_lock import parse

    scene = Scene("cloud")
    lock = parse(written(pcrs=BOOT, verity=VERITY, packages=()))
    scene.put("image_lock", None)
    assert scene.appraise().check("boot.image").verdict == "not-checked"
    scene.edit("policy", lambda p: with_image(replace(p, accepted=frozenset()), lock))
    assert scene.appraise().verdict == "passed"


def test_a_policy_that_accepts_no_image_or_firmware_gives_no_verdict() -> None:
    no_image, no_firmware = Scene("cloud"), Scene("cloud")
    no_image.edit("policy", lambda p: replace(p, accepted=frozenset()))
    no_firmware.edit("policy", lambda p: replace(p, firmware=()))
    for scene in (no_image, no_firmware):
        result = scene.appraise()
        assert (result.verdict, result.exit_code) == ("none", 2)
    assert set(FIRMWARE) == {0, 1, 2, 3, 7}


def test_what_is_not_decided_of_the_machine_says_why() -> None:
    def detail(check: str, scene: Scene) -> str:
        return scene.appraise().check(check).detail

    without = Scene("cloud").edit("policy", lambda p: replace(p, accepted=frozenset(), images={}))
    assert detail("boot.image", without) == "policy test accepts no machine image yet"
    unnamed = Scene("cloud").edit("policy", lambda p: replace(p, firmware=()))
    assert detail("boot.firmware", unnamed) == "policy test names no firmware values"
    bare = Scene("cloud").edit("certificate", lambda c: replace(c, image_lock=None))
    bare.edit("policy", lambda p: replace(p, images={}))
    assert detail("boot.image", bare) == (
        "the certificate carries no image lock: say which image you accept (--image-lock)"
    )
    other = Firmware(name="b", pcrs={index: bytes(32) for index in FIRMWARE})
    two = Scene("cloud").edit(
        "policy", lambda p: replace(p, firmware=(replace(other, name="a"), other))
    )
    assert detail("boot.firmware", two).startswith(
        "the firmware is not one of those accepted: a, b\n"
    )
