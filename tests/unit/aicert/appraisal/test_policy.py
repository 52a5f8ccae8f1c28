from dataclasses import replace
from pathlib import Path

import pytest

from aicert.appraisal.ak_chain import Root
from aicert.appraisal.policy import (
    BUILT_IN,
    Firmware,
    Policy,
    built_in,
    describe,
    require_roots,
    root_from_certificate,
    with_image,
    with_root,
)
from aicert.errors import ConfigError, EvidenceError
from aicert.trust.policy_file import load_policy
from tests.adversarial import ca_forge
from tests.adversarial.ca_forge import ec_key, issue, root
from tests.adversarial.forger import BOOT, FIRMWARE, VERITY, Scene
from tests.unit.aicert.formats.test_image_lock import DIGEST, written

LOCAL = root("local CA", ec_key("ca"), driver="local")
REAL = root("real CA", ec_key("ca"))


def test_default_wants_a_cloud_and_accepts_no_image_yet() -> None:
    policy = built_in("default")
    assert (policy.tier, policy.accepted) == ("vtpm", frozenset())
    assert [one.tier for one in policy.roots] == ["vtpm"]
    assert describe(policy) == "policy default: tier vtpm or better, roots azure-vtpm-2023"
    assert require_roots(policy) is policy


@pytest.mark.parametrize(("name", "tier"), [("local", "software"), ("qemu", "measured-vm")])
def test_simulated_policies_need_the_callers_root(name: str, tier: str) -> None:
    policy = built_in(name)
    with pytest.raises(ConfigError, match="names no platform root") as caught:
        require_roots(policy)
    wanted = f"--root PEM: the maker's checkout has it at .aicert/ca/{name}.pem"
    assert caught.value.hint == wanted
    rooted = with_root(policy, ca_forge.pem(root("CA", ec_key("ca"), driver=name)), "ca.pem")
    assert [(one.tier, one.simulated) for one in rooted.roots] == [(tier, name)]


def test_the_firmware_that_qemu_machines_boot_is_built_in() -> None:
    (firmware,) = built_in("qemu").firmware
    assert sorted(firmware.pcrs) == [0, 2, 3, 7]
    assert all(len(value) == 32 and any(value) for value in firmware.pcrs.values())
    assert built_in("local").firmware == ()
    assert [each.name for each in built_in("default").firmware] == ["azure-trusted-launch-2024-06"]


def test_built_in_policies_say_their_names() -> None:
    assert [built_in(name).name for name in BUILT_IN] == list(BUILT_IN)


def test_no_other_policy_is_built_in() -> None:
    with pytest.raises(ConfigError, match="default, confidential, local, qemu"):
        built_in("azure")


def test_a_root_says_itself_what_it_simulates() -> None:
    with pytest.raises(ConfigError, match="certifies simulated:local"):
        with_root(built_in("qemu"), ca_forge.pem(LOCAL), "ca.pem")
    with pytest.raises(ConfigError, match="not the root of a simulated platform"):
        with_root(built_in("local"), ca_forge.pem(REAL), "ca.pem")
    with pytest.raises(ConfigError, match=r"^ca\.pem.*not one PEM"):
        with_root(built_in("local"), b"", "ca.pem")
    weak = issue("x", ca_forge.rsa_key("weak", 1024), issuer="x", issuer_key=ec_key("ca"))
    with pytest.raises(ConfigError, match=r"^ca\.pem: ca\.pem.*1024 bits"):
        with_root(built_in("local"), ca_forge.pem(weak), "ca.pem")


def refused(**fields: object) -> str:
    """Why a policy named p is not made."""
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
    future = Root(name="r", der=REAL, tier="confidential-gpu")
    assert refused(roots=(future,)) == (
        "policy p: root r: no evidence of tier confidential-gpu can be judged yet"
    )
    weak = issue("x", ca_forge.rsa_key("weak", 1024), issuer="x", issuer_key=ec_key("ca"))
    with pytest.raises(EvidenceError, match=r"^root r: an RSA key of 1024 bits$"):
        refused(roots=(Root(name="r", der=weak, tier="vtpm"),))


def test_require_roots_of_a_policy_file(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('tier = "vtpm"\n')
    with pytest.raises(ConfigError, match="names no platform root"):
        require_roots(load_policy(str(tmp_path / "p.toml")))


def test_images_that_the_caller_holds() -> None:
    from aicert.formats.image_lock import parse

    lock = parse(written())
    policy = with_image(built_in("default"), lock)
    assert policy.accepted == {lock.digest}
    assert dict(policy.images) == {lock.digest: lock}
    assert DIGEST not in policy.accepted


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


def test_a_root_of_a_file_is_simulated_where_it_says_so() -> None:
    made = root_from_certificate("ours", LOCAL, "software", needs_eku=True, subjects=(".x",))
    assert made == Root(
        name="ours", der=LOCAL, tier="software", simulated="local", needs_eku=True, subjects=(".x",)
    )
    weak = issue("x", ca_forge.rsa_key("weak", 1024), issuer="x", issuer_key=ec_key("ca"))
    with pytest.raises(EvidenceError, match="root ours"):
        root_from_certificate("ours", weak, "vtpm", needs_eku=True, subjects=())


def test_a_callers_root_has_a_name_and_what_is_wrong_a_hint() -> None:
    policy = with_root(built_in("local"), ca_forge.pem(LOCAL), "ca.pem")
    assert [one.name for one in policy.roots] == ["simulated:local"]
    assert (policy.images, built_in("qemu").images) == ({}, {})
    with pytest.raises(ConfigError) as caught:
        with_root(built_in("qemu"), ca_forge.pem(LOCAL), "ca.pem")
    assert caught.value.message == (
        "ca.pem certifies simulated:local platforms, policy qemu wants simulated:qemu"
    )
    assert caught.value.hint == "--policy local"
    with pytest.raises(ConfigError) as caught:
        with_root(built_in("local"), ca_forge.pem(REAL), "ca.pem")
    assert caught.value.hint == (
        "write a policy file with a [[root]] that states its tier (docs/spec/policy.md)"
    )
    with pytest.raises(ConfigError) as caught:
        require_roots(Policy(name="mine", tier="vtpm", roots=(), images={}))
    assert caught.value.message == "policy mine names no platform root"
    assert caught.value.hint == "--root PEM"
    other = root("other CA", ec_key("other"), driver="local")
    two = with_root(policy, ca_forge.pem(other), "ca.pem")
    assert describe(two).endswith("roots simulated:local, simulated:local")


def test_what_is_not_decided_of_the_machine_says_why() -> None:
    def said(check: str, scene: Scene) -> str:
        return scene.appraise().check(check).detail

    without = Scene("cloud").edit("policy", lambda p: replace(p, accepted=frozenset(), images={}))
    assert said("boot.image", without) == "policy test accepts no machine image yet"
    unnamed = Scene("cloud").edit("policy", lambda p: replace(p, firmware=()))
    assert said("boot.firmware", unnamed) == "policy test names no firmware values"
    bare = Scene("cloud").edit("certificate", lambda c: replace(c, image_lock=None))
    bare.edit("policy", lambda p: replace(p, images={}))
    assert said("boot.image", bare) == (
        "the certificate carries no image lock: say which image you accept (--image-lock)"
    )
    other = Firmware(name="b", pcrs={index: bytes(32) for index in FIRMWARE})
    two = Scene("cloud").edit(
        "policy", lambda p: replace(p, firmware=(replace(other, name="a"), other))
    )
    assert said("boot.firmware", two).startswith("the firmware is none of those accepted: a, b\n")
