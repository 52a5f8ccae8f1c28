from pathlib import Path

import pytest

from aicert.appraisal.ak_chain import Root
from aicert.appraisal.policy import Policy
from aicert.errors import ConfigError, EvidenceError
from aicert.trust.built_in import (
    BUILT_IN,
    built_in,
    describe,
    require_roots,
    root_from_certificate,
    with_image,
    with_root,
)
from aicert.trust.policy_file import load_policy
from tests.adversarial import ca_forge
from tests.adversarial.ca_forge import ec_key, issue, root
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
    with pytest.raises(
        ConfigError, match="default, confidential, confidential-gpu, google, local, qemu"
    ):
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


def test_a_root_of_a_file_is_simulated_where_it_says_so() -> None:
    ours = root_from_certificate("ours", LOCAL, "software", needs_eku=True, subjects=(".x",))
    assert ours == Root(
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
        "ca.pem certifies simulated:local platforms, but policy qemu requires simulated:qemu"
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
