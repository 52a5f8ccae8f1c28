"""What a second certificate of equal bytes shows, and what it does not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aicert.appraisal.appraise import appraise
from aicert.appraisal.evidence.reproductions import Reproduction, Side, compared, is_about
from aicert.appraisal.policy import Policy
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.digest import Digest
from tests.adversarial.attacks_results import audit
from tests.adversarial.attacks_run import files, input_code, reported
from tests.adversarial.forger import Scene
from tests.adversarial.reproducing import (
    again,
    another_image,
    another_key,
    another_owner,
    policy_of,
    renamed_image,
)

Change = Callable[[Scene], object]


def side(scene: Scene, policy: Policy) -> Side:
    certificate = scene.get("certificate")
    return Side(certificate=certificate, verdict=appraise(certificate, None, policy, at=scene.at))


def judged(first: Scene, second: Scene, policy: Policy | None = None) -> Reproduction:
    chosen = policy or policy_of(first, second)
    return compared(side(first, chosen), side(second, chosen), chosen.roots)


def test_another_owners_machine_under_another_image_is_another_execution() -> None:
    second = again("qemu", another_owner, another_image)
    one = judged(Scene("qemu", 2), second)
    assert (one.grade, one.lacks, one.tier) == ("re-executed", (), "measured-vm")
    assert one.roots == ("qemu platform CA", "another platform CA")
    assert (one.image, one.run, one.may_be_one_operator) == ("machine-2", "tiny", False)


def test_of_a_clouds_machines_nothing_says_who_ran_them() -> None:
    one = judged(Scene("cloud", 2), again("cloud", another_key, another_image))
    assert (one.grade, one.lacks, one.tier) == ("re-executed", (), "vtpm")
    assert one.may_be_one_operator


def test_who_owns_a_simulated_platform_may_have_rented_a_clouds_machine() -> None:
    first, second = Scene("cloud", 2), again("qemu", another_owner, another_image)
    policy = replace(policy_of(first, second), tier="measured-vm")
    one = judged(first, second, policy)
    assert (one.grade, one.lacks, one.may_be_one_operator) == ("re-executed", (), True)


ONE_OWNER = "one owner could have made both: root {} platform CA stands for its operator"
ONE_KEY = "the same machine ran both: they have one attestation key"
ONE_IMAGE = "both ran under one image"


@pytest.mark.parametrize(
    ("kind", "changes", "lacks"),
    [
        ("qemu", (), (ONE_KEY, ONE_IMAGE)),
        ("qemu", (another_image,), (ONE_KEY,)),
        # The holder of a CA can make as many keys as he likes.
        ("qemu", (another_key, another_image), (ONE_OWNER.format("qemu"),)),
        ("qemu", (another_owner,), (ONE_IMAGE,)),
        ("qemu", (another_owner, renamed_image), (ONE_IMAGE,)),
        ("cloud", (another_image,), (ONE_KEY,)),
        ("cloud", (another_key,), (ONE_IMAGE,)),
        ("cloud", (another_key, renamed_image), (ONE_IMAGE,)),
        ("local", (another_owner,), ("not both machines measured the image that they ran",)),
        (
            "local",
            (another_key,),
            (ONE_OWNER.format("local"), "not both machines measured the image that they ran"),
        ),
    ],
)
def test_what_one_party_could_have_made_shows_that_it_is_deterministic_and_no_more(
    kind: str, changes: tuple[Change, ...], lacks: tuple[str, ...]
) -> None:
    one = judged(Scene(kind, 2), again(kind, *changes))
    assert (one.grade, one.lacks) == ("repeated", lacks)


def test_one_key_under_two_owners_is_one_machine() -> None:
    def under_another_ca(scene: Scene) -> None:
        key = scene.ak
        another_owner(scene)
        scene.ak = key

    one = judged(Scene("qemu", 2), again("qemu", under_another_ca, another_image))
    assert (one.grade, one.lacks) == ("repeated", (ONE_KEY,))


def test_code_of_inputs_may_hold_the_bytes_that_it_gives() -> None:
    first, second = Scene("cloud", 2), again("cloud", another_key, another_image)
    for scene in (first, second):
        input_code(allow_remote_code=True)(scene)
    policy = replace(policy_of(first, second), allow=frozenset(("remote-code",)))
    one = judged(first, second, policy)
    assert (one.grade, one.lacks) == (
        "repeated", ("code of its inputs may have run in both trainers",),
    )  # fmt: skip


def one_byte_more(scene: Scene) -> None:
    files(lambda given: given | {"model.safetensors": b"weights after training."})(scene)


def another_lockfile(scene: Scene) -> None:
    def edited(locked: Any) -> Any:
        first, *rest = locked.inputs
        return replace(locked, inputs=(replace(first, digest=Digest("dirHash", "00" * 32)), *rest))

    scene.edit("lockfile", edited)


def same_key(scene: Scene) -> None:
    scene.run_key = Scene("qemu", 2).run_key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_byte_more, "its outputs are not the same bytes"),
        (another_lockfile, "it is of another lockfile"),
        (same_key, "it is of the same run, and no second one"),
    ],
)
def test_look_alikes_are_refused(change: Change, message: str) -> None:
    second = again("qemu", another_owner, another_image, change)
    with pytest.raises(EvidenceError, match=f"^{message}$"):
        judged(Scene("qemu", 2), second)


def test_the_statement_of_the_first_under_other_keys_is_refused() -> None:
    first = Scene("qemu", 2)
    second = again("qemu", another_owner)
    second.put("statement", first.get("statement"))
    second.put("nonce", first.get("nonce"))
    with pytest.raises(EvidenceError, match=r"^it is of the same run, and no second one$"):
        judged(first, second)


def unaccepted(first: Scene, second: Scene) -> Policy:
    policy = policy_of(first, second)
    return replace(policy, accepted=first.get("policy").accepted)


def unknown_root(first: Scene, second: Scene) -> Policy:
    return replace(policy_of(first, second), roots=first.get("policy").roots)


@pytest.mark.parametrize(
    ("changes", "policy", "check"),
    [
        ((), unaccepted, "boot.image"),
        ((), unknown_root, "platform.chain"),
        ((reported(exit_code="1"),), policy_of, "outputs.exit"),
        ((lambda scene: scene.set_pcr(14, bytes(32)),), policy_of, "inputs.pcr14"),
    ],
)
def test_a_second_certificate_that_does_not_pass_shows_nothing(
    changes: tuple[Change, ...], policy: Callable[[Scene, Scene], Policy], check: str
) -> None:
    first, second = Scene("qemu", 2), again("qemu", another_owner, another_image, *changes)
    with pytest.raises(UndecidedError, match=rf"^it does not pass: {check}: "):
        judged(first, second, policy(first, second))


def test_nothing_is_shown_of_a_first_certificate_that_does_not_pass() -> None:
    first = Scene("qemu", 2)
    reported(exit_code="1")(first)
    with pytest.raises(UndecidedError, match=r"^the certificate does not pass: outputs\.exit: "):
        judged(first, again("qemu", another_owner, another_image))


def test_results_of_an_audit_may_be_made_again_too() -> None:
    first = Scene("cloud", 2)
    audit()(first)
    one = judged(first, again("cloud", another_key, another_image, audit()))
    assert (one.grade, one.lacks) == ("re-executed", ())


def test_what_is_about_a_run_is_of_its_lockfile_or_its_outputs() -> None:
    scene = Scene("qemu", 2)
    first = side(scene, policy_of(scene))
    outputs = [output.digest for output in scene.get("statement").outputs.values()]

    def about(second: Scene) -> bool:
        theirs = [output.digest for output in second.get("statement").outputs.values()]
        return is_about(first, second.get("certificate"), theirs)

    assert not is_about(first, scene.get("certificate"), outputs)
    assert about(again("qemu"))
    assert about(again("qemu", one_byte_more))
    assert about(again("qemu", another_lockfile))
    assert not about(again("qemu", another_lockfile, one_byte_more))
    # The first certificate, after somebody added a time stamp: its digest stays the same.
    stamped = replace(
        scene.get("certificate"),
        evidence=replace(scene.get("certificate").evidence, timestamps=("rfc3161:AAAA",)),
    )
    assert not is_about(first, stamped, outputs)
