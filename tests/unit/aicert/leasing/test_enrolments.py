from collections.abc import Callable
from typing import Any

import pytest

from aicert.appraisal import revoked_images
from aicert.appraisal.ak_chain import Root
from aicert.errors import EvidenceError, UndecidedError
from aicert.frozen import replace
from aicert.lease import blob, licence, receipts, tpm_policy
from aicert.lease.checks import RefusedError
from aicert.leasing import enrolments
from tests.adversarial import ca_forge, tpm_forge
from tests.adversarial.enrolment_forge import (
    AK,
    AT,
    CA,
    ENDORSEMENT,
    NONCE,
    OWNER,
    RECEIPTS,
    ROOT,
    Scene,
    ak_certificate,
    judged,
    policy,
    receipt_public,
    registers,
)
from tests.vectors.leases import FIRMWARE, IMAGE, STORAGE, agreed

OTHER = b"\xee" * 32
ATTRIBUTES = receipts.RECEIPT_KEY_ATTRIBUTES


def test_an_honest_machine_is_enrolled() -> None:
    enrolled = judged(Scene())
    assert (enrolled.tier, enrolled.image, enrolled.firmware) == ("measured-vm", IMAGE, FIRMWARE)
    assert (enrolled.meter.value, enrolled.epoch.value) == (10, 3)
    assert enrolled.storage_public == STORAGE
    assert judged(Scene(), nonce=None).root == ROOT.name


def attack(check: str, **changes: Any) -> Any:
    return pytest.param(check, lambda: Scene(**changes), id=f"{check}-{'-'.join(changes)}")


def of_values(check: str, **changes: bytes) -> Any:
    return pytest.param(
        check, lambda: Scene(values=registers(**changes)), id=f"{check}-{'-'.join(changes)}"
    )


def of_receipt_key(name: str, **changes: Any) -> Any:
    return pytest.param(
        "enrol.policy-ak",
        lambda: Scene(receipt_public=receipt_public(registers(), **changes)),
        id=f"enrol.policy-ak-{name}",
    )


STRANGER = ca_forge.ec_key("stranger")
DRIVEN = registers(pcr2=OTHER)


@pytest.mark.parametrize(
    ("check", "scene"),
    [
        attack("terms.digest", lease="0" * 32),
        attack("terms.digest", terms=agreed(tick_tokens=1).digest),
        attack("enrol.nonce", nonce=OTHER),
        attack("enrol.nonce", bound_nonce=OTHER),
        attack("enrol.chain", chain=(ak_certificate(STRANGER),)),
        attack("enrol.chain", chain=(ak_certificate(driver="local"),)),
        attack("enrol.chain", chain=()),
        attack("enrol.quote", ak=STRANGER),
        attack("enrol.quote", selected=tuple(range(15))),
        attack("enrol.quote", shown=registers(pcr4=OTHER)),
        attack("enrol.quote", quoted={"kind": tpm_forge.CERTIFY}),
        of_values("enrol.image", pcr4=OTHER),
        of_values("enrol.image", pcr11=OTHER),
        of_values("enrol.firmware", pcr0=OTHER),
        of_values("enrol.firmware", pcr2=OTHER),
        of_values("enrol.firmware", pcr7=OTHER),
        *(of_values("enrol.registers", **{f"pcr{i}": OTHER}) for i in licence.ZERO_PCRS),
        of_receipt_key("password", attributes=ATTRIBUTES | 0x40),
        of_receipt_key("duplicable", attributes=ATTRIBUTES & ~0x12),
        of_receipt_key("imported", attributes=ATTRIBUTES & ~0x20),
        of_receipt_key("unrestricted", attributes=ATTRIBUTES & ~0x10000),
        of_receipt_key("no-policy", policy=b""),
        of_receipt_key("other-firmware", policy=licence.receipt_policy(DRIVEN)),
        attack("enrol.policy-ak", receipt_hierarchy=OWNER),
        attack("enrol.policy-ak", receipt_hierarchy=tpm_forge.RH_NULL),
        attack("enrol.policy-ak", certified={"public": STORAGE}),
        attack("enrol.policy-ak", certified={"extra": OTHER}),
        attack("enrol.policy-ak", certified={"reset": 8}),
        attack("enrol.policy-ak", certified={"signer": b"\x00\x0b" + OTHER}),
        attack("enrol.storage-key", storage_hierarchy=ENDORSEMENT),
        attack("enrol.storage-key", storage_public=receipt_public(registers())),
        attack("enrol.storage-key", storage_certified={"restart": 1}),
        attack("enrol.counters", receipts=STRANGER),
        attack("enrol.counters", meter={"index": licence.EPOCH_INDEX}),
        attack("enrol.counters", epoch={"extra": OTHER}),
        attack("enrol.counters", epoch={"reset": 8}),
        # Resumed: the registers are those of an earlier boot.
        attack("enrol.counters", meter={"restart": 1}, epoch={"restart": 1}),
        attack("enrol.counters", meter={"body": tpm_forge.counter_body(b"\x00\x0b" + OTHER, 1)}),
    ],
)  # fmt: skip
def test_a_forged_enrolment_is_refused_by_its_check(check: str, scene: Callable[[], Scene]) -> None:
    with pytest.raises(RefusedError) as refused:
        judged(scene(), nonce=NONCE)
    assert refused.value.check == check
    assert refused.value.exit_code == 1


def test_enrol_counters_of_another_kind_have_another_name() -> None:
    """An ordinary index in a counter's place, one with a policy, and one that was never written."""
    names = set()
    for attributes in (tpm_policy.COUNTER_ATTRIBUTES & ~0x10, tpm_policy.COUNTER_ATTRIBUTES):
        public = tpm_policy.counter_public(licence.METER_INDEX)
        names.add(tpm_forge.name_of(public[:6] + attributes.to_bytes(4) + public[10:]))
    for name in names:
        scene = Scene(meter={"body": tpm_forge.counter_body(name, 10)})
        with pytest.raises(RefusedError, match=r"^enrol\.counters: receipt\.index"):
            judged(scene)


def test_enrol_tier_below_the_policys() -> None:
    with pytest.raises(RefusedError, match=r"^enrol\.tier: .*its operator could have forged this"):
        judged(Scene(), policy(tier="vtpm"))
    real = Root(name="cloud", der=ca_forge.root("enrol ca", CA), tier="vtpm")
    certificate = ca_forge.issue(
        "ak", AK, issuer="enrol ca", issuer_key=CA, purposes=(real.eku,),
        key_usage=ca_forge.usage(),
    )  # fmt: skip
    scene = Scene(chain=(certificate,))
    with pytest.raises(RefusedError, match=r"^enrol\.tier: tier vtpm, but .* or better$"):
        judged(scene, policy(tier="confidential", roots=(real,)))
    assert judged(scene, policy(tier="vtpm", roots=(real,))).tier == "vtpm"
    guarded = replace(real, tier="confidential")
    with pytest.raises(UndecidedError, match="leases read no processor's report yet"):
        judged(scene, policy(tier="confidential", roots=(guarded,)))


def test_what_a_policy_does_not_say_is_no_verdict() -> None:
    for lacking, message in (
        ({"firmware": ()}, "names no firmware values"),
        ({"images": {}}, "has no image lock"),
    ):
        with pytest.raises(UndecidedError, match=message) as undecided:
            judged(Scene(), policy(**lacking))
        assert undecided.value.exit_code == 2


def test_enrol_image_that_is_held_and_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, Any]
    for changes in ({"accepted": frozenset()}, {"revoked": frozenset((IMAGE.digest,))}):
        with pytest.raises(RefusedError, match=r"^enrol\.image: the machine booted something"):
            judged(Scene(), policy(**changes))
    monkeypatch.setitem(revoked_images.REVOKED, IMAGE.pcrs[11][:8], "it leaked")
    with pytest.raises(RefusedError, match=r"^enrol\.image: the image is revoked: it leaked"):
        judged(Scene())


def local() -> tuple[Scene, Any]:
    """Return a platform that measures nothing, and the policy for it."""
    root = Root(
        name="local", der=ca_forge.root("enrol ca", CA, driver="local"), tier="software",
        simulated="local",
    )  # fmt: skip
    values = dict.fromkeys(range(16), bytes(32))
    scene = Scene(chain=(ak_certificate(driver="local"),), values=values)
    return scene, policy(tier="software", roots=(root,), images={}, firmware=())


def test_a_software_platform_has_no_image() -> None:
    scene, rules = local()
    enrolled = judged(scene, rules)
    assert (enrolled.tier, enrolled.image) == ("software", None)
    scene.values[11] = OTHER
    with pytest.raises(RefusedError, match=r"^enrol\.image: PCR 11 of a software platform"):
        judged(scene, rules)


def test_what_is_enrolled_is_leased_to() -> None:
    enrolled = judged(Scene())
    wrapped = blob.wrap(bytes(32), bytes(32), enrolled.storage_public)
    assert len(blob.emit(wrapped)) == 448
    assert enrolled.receipt_key.key.public_numbers() == RECEIPTS.public_key().public_numbers()


def test_an_expired_ak_is_refused() -> None:
    with pytest.raises(EvidenceError, match=r"^enrol\.chain: .*is valid from"):
        judged(Scene(), at=AT.replace(year=AT.year + 80))
    assert enrolments.RH_OWNER == OWNER
