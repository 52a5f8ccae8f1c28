"""Attacks on GPU evidence: which device answered, in which machine, and what it runs.

`UNDECIDED` holds the rows in which a check stays open and none fails.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.adversarial import nvidia_forge as forge
from tests.adversarial.attacks import MALFORMED, Attack
from tests.adversarial.attacks_platform import LAST_YEAR
from tests.adversarial.ca_forge import ec_key, root, usage
from tests.adversarial.forger import Scene
from tests.adversarial.td_forge import ISSUED, NEXT

Change = Callable[[Scene], object]
OWN = ec_key("own gpu maker", "P-384")
GPU = "platform.gpu"
HOLD = 6


def devices(*given: dict[str, Any]) -> Change:
    return lambda scene: scene.put("devices", list(given))


def one(**options: Any) -> Change:
    return devices(forge.device(**options))


def certified(**options: Any) -> Change:
    return one(chain=options)


def answered(**options: Any) -> Change:
    return one(report=options)


def fields(**changes: bytes) -> Change:
    """Change the device's fields by number: `f20=b"..."` sets field 20."""
    return one(fields=dict(forge.FIELDS) | {int(key[1:]): value for key, value in changes.items()})


def mode(number: int, **options: Any) -> dict[str, Any]:
    more = dict(forge.FIELDS) | {36: number.to_bytes(2, "little"), 22: forge.LINKS}
    return forge.another(fields=more, **options) if options else forge.device(fields=more)


def rims(*given: bytes) -> Change:
    return lambda scene: scene.put("rims", list(given))


def measured(first: bytes) -> Change:
    return answered(blocks=(forge.block(1, first), *forge.BLOCKS[1:]))


def says(serial: int, **options: Any) -> Change:
    """Change the OCSP answer about one certificate."""
    return lambda scene: scene.edit(
        "answers", lambda given: given | {serial: forge.answer(serial, **options)}
    )


def answer(change: Callable[[bytes], bytes], serial: int = forge.SIGNER) -> Change:
    return lambda scene: scene.edit(
        "answers", lambda given: given | {serial: change(given[serial])}
    )


def signed_by(**options: Any) -> Change:
    return says(forge.SIGNER, signer=(forge.responder(**options),))


def without(serial: int) -> Change:
    return lambda scene: scene.edit(
        "answers", lambda given: {key: one for key, one in given.items() if key != serial}
    )


def collateral(data: bytes | None) -> Change:
    return lambda scene: scene.put("gpu_collateral", data)


def policy(**changes: Any) -> Change:
    return lambda s: s.edit("policy", lambda given: replace(given, **changes))


def accepts(*, drivers: tuple[str, ...] = (), vbios: tuple[str, ...] = ()) -> Change:
    maker = replace(forge.maker(), drivers=frozenset(drivers), vbios=frozenset(vbios))
    return policy(gpus=(maker,))


def builder(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    return lambda scene: scene.edit("builder", change)


def shown_instead(*given: dict[str, Any]) -> Change:
    """Show reports of devices outside this machine, with the right nonce."""

    def change(scene: Scene) -> None:
        other = Scene("gpu", scene.version).put("devices", list(given))
        scene.edit("gpus", lambda gpus: replace(gpus, devices=other.get("device_reports")))

    return change


def json_gpus(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the GPU evidence in the JSON of the certificate file."""
    import json

    def edited(data: bytes) -> bytes:
        document = json.loads(data)
        change(document["evidence"]["gpus"])
        return json.dumps(document).encode()

    return lambda scene: scene.edit("file", edited)


def with_switches(*more: dict[str, Any]) -> Change:
    """Use two GPUs that communicate through a switch, and any `more` devices."""

    def change(scene: Scene) -> None:
        devices(mode(2), mode(2, report={}), *more)(scene)
        bios = forge.rim(forge.SWITCH_BIOS, {1: (True, forge.VALUES[1:2])}, product="LS_10")
        scene.edit("rims", lambda given: [*given, bios])

    return change


def blackwell(scene: Scene) -> None:
    """Use two Blackwell GPUs that communicate over encrypted links."""
    name = {"name": forge.named(b"GB100")}
    devices(mode(1) | {"chain": name}, mode(1, chain=name))(scene)
    driver = forge.rim(wanted={0: (True, forge.VALUES[:1])}, product="GB100")
    scene.edit("rims", lambda given: [driver, *given[1:]])


def flipped(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]


REVOKED = {"revoked": 1}
ROWS: tuple[tuple[str, str, Change], ...] = (
    ("GPU certified under the builder's own root", GPU, certified(
        ca_key=OWN, last=root(forge.CA, OWN))),
    ("GPU certified by another CA of that name", GPU, certified(ca_key=OWN)),
    ("GPU's certificate expired", GPU, certified(end=LAST_YEAR)),
    ("GPU's certificate is a CA's", GPU, certified(ca=True)),
    ("GPU's certificate that names no model", GPU, certified(name=None)),
    ("GPU's certificate that names no firmware", GPU, certified(dice=b"\x30\0")),
    ("CA of GPUs that may not sign", GPU, certified(constraints=False)),
    ("CA of GPUs below one too many", GPU, certified(path_length=0)),
    ("GPU's chain too short", GPU, lambda s: s.edit("device_reports", lambda reports: tuple(
        replace(one, chain=one.chain[1:]) for one in reports))),
    ("report signed by another GPU", GPU, answered(key=OWN)),
    ("report of a GPU changed after signing", GPU, one(change=flipped(200))),
    ("report of a GPU that answers another challenge", GPU, answered(nonce=bytes(32))),
    ("report of a GPU of another of its slots", GPU, answered(slot=1)),
    ("report of a GPU without measurements", GPU, answered(blocks=())),
    ("report of a GPU with other firmware than its certificate", GPU, fields(f20=bytes(48))),
    ("report of a GPU cut short", GPU, one(change=lambda data: data[:-1])),
    ("GPU in another machine", GPU, shown_instead(forge.another())),
    ("GPU that the machine asked, left out", GPU, lambda s: (
        devices(forge.device(), forge.another())(s), shown_instead(forge.device())(s))),
    ("GPU beside those that the machine asked", GPU, shown_instead(
        forge.device(), forge.another())),
    ("one GPU shown as two", GPU, devices(forge.device(), forge.device())),
    ("switches without a GPU", GPU, devices(forge.switch())),
    ("GPU with other code than was published", GPU, measured(b"\1" * 48)),
    ("GPU with fewer measurements than were published", GPU, answered(blocks=forge.BLOCKS[:3])),
    ("second GPU with other code than was published", GPU, devices(
        forge.device(), forge.another(report={"blocks": forge.BLOCKS[:1]}))),
    ("reference measurements changed after signing", GPU, lambda s: s.edit(
        "rims", lambda given: [given[0].replace(
            forge.VALUES[0].hex().encode(), b"11" * 48), *given[1:]])),
    ("reference measurements signed by another key", GPU, rims(
        forge.rim(key=OWN), forge.rims()[1])),
    ("reference measurements signed by a CA", GPU, rims(
        forge.rim(leaf_ca=True), forge.rims()[1])),
    ("reference measurements under another root", GPU, policy(
        gpus=(replace(forge.maker(), rim_root=root("other", OWN)),))),
    ("two reference measurements for one place", GPU, rims(forge.rims()[0], forge.rim(
        forge.VBIOS, {0: (True, forge.VALUES[:1])}))),
    ("CA of GPUs that is revoked", GPU, says(forge.BETWEEN[0], **REVOKED)),
    ("CA of GPUs that is on hold", GPU, says(forge.BETWEEN[1], revoked=HOLD)),
    ("who signed reference measurements is revoked", GPU, says(forge.SIGNER, **REVOKED)),
    ("answer that does not know, said to be good after signing", GPU, lambda s: (
        says(forge.SIGNER, unknown=True)(s),
        answer(lambda data: data.replace(b"\x82\0\x18\x0f", b"\x80\0\x18\x0f"))(s))),
    ("answer about revocation by another key", GPU, says(forge.SIGNER, key=OWN)),
    ("answer about revocation by somebody without that purpose", GPU, signed_by(purposes=())),
    ("answer about revocation by another CA's responder", GPU, signed_by(issuer_key=OWN)),
    ("answer about revocation by a CA", GPU, signed_by(ca=True, key_usage=usage(cert=True))),
    ("answer about revocation by an expired key", GPU, signed_by(end=LAST_YEAR)),
    ("answer about revocation changed after signing", GPU, answer(
        lambda data: data.replace(b"20261119", b"20271119"))),
    ("answer about revocation with too many certificates", GPU, says(
        forge.SIGNER, signer=(forge.responder(),) * 5)),
    ("answer about revocation that is none", GPU, answer(lambda data: data[:-1])),
    ("answer about revocation too large", GPU, answer(lambda data: data.ljust(8193, b"\0"))),
    ("GPUs' collateral is no JSON", GPU, collateral(b"no JSON")),
    ("GPUs' collateral with an unknown key", GPU, collateral(
        b'{"note": 1, "ocsp": [], "rims": []}')),
    ("GPUs' collateral that is no base64", GPU, collateral(b'{"ocsp": ["!"], "rims": []}')),
    ("driver that the policy does not accept", GPU, accepts(drivers=("580.1",))),
    ("VBIOS that the policy does not accept", GPU, accepts(vbios=("1",))),
    ("GPUs of which one is not protected as the other", GPU, devices(
        forge.device(), mode(1, report={}))),
    ("GPU that sends through switches and does not say which", GPU, fields(f36=b"\2\0")),
    ("no reports of GPUs where there are some", MALFORMED, json_gpus(
        lambda given: given.update(devices=[]))),
    ("too many GPUs", MALFORMED, json_gpus(
        lambda given: given.update(devices=given["devices"] * 17))),
    ("GPU without a certificate", MALFORMED, json_gpus(
        lambda given: given["devices"][0].update(chain=[]))),
    ("report of a GPU too large", MALFORMED, json_gpus(
        lambda given: given["devices"][0].update(report="AAAA" * 5462))),
    ("GPU with an unknown key", MALFORMED, json_gpus(
        lambda given: given["devices"][0].update(note="x"))),
    ("GPUs with an unknown key", MALFORMED, json_gpus(lambda given: given.update(note="x"))),
    ("GPUs' collateral too large", MALFORMED, json_gpus(
        lambda given: given.update(collateral="AAAA" * 349526))),
)  # fmt: skip

ATTACKS = (
    *(Attack(name, check, change, "gpu") for name, check, change in ROWS),
    Attack("confidential machine whose GPUs nobody protects", "platform.tier", lambda s: s.edit(
        "policy", lambda given: replace(given, tier="confidential-gpu")), "confidential"),
)  # fmt: skip

# Name, the first check that stays open (None: passed), and the change.
UNDECIDED: tuple[tuple[str, str | None, Change], ...] = (
    ("machine with GPUs that says nothing of them", GPU, lambda s: s.put("gpus", None)),
    ("policy names no maker of GPUs", GPU, policy(gpus=())),
    ("statement that does not name its machine's GPUs", GPU, builder(
        lambda given: {key: value for key, value in given.items() if key != "gpus"})),
    ("GPU of an unknown model", GPU, certified(name=forge.named(b"GX100"))),
    ("report of a GPU of an unknown version", GPU, answered(request=b"\x12\xe0\x01\xff")),
    ("GPU protected in an unknown way", GPU, devices(mode(7))),
    ("GPUs without collateral", GPU, collateral(None)),
    ("driver of which nothing was published", GPU, rims(forge.rims()[1])),
    ("VBIOS of which nothing was published", GPU, rims(forge.rims()[0])),
    ("driver of another model's GPUs", GPU, rims(
        forge.rim(product="GB100", wanted={0: (True, forge.VALUES[:1])}), forge.rims()[1])),
    ("reference measurements signed in another way", GPU, rims(
        forge.rim(info=forge.INFO.replace("c14n11", "c14n")), forge.rims()[1])),
    ("no answer about a GPU's CA", GPU, without(forge.BETWEEN[0])),
    ("no answer about who signed reference measurements", GPU, without(forge.SIGNER)),
    ("answer about another CA's certificate", GPU, says(forge.SIGNER, of_key=OWN)),
    ("answer about revocation that is expired", GPU, says(forge.SIGNER, end=ISSUED)),
    ("answer about revocation of the future", GPU, says(forge.SIGNER, start=NEXT)),
    ("answer about revocation without an end", GPU, says(forge.SIGNER, end=None)),
    ("answer that does not know the certificate", GPU, says(forge.SIGNER, unknown=True)),
    ("answer about several certificates", GPU, says(forge.SIGNER, number=2)),
    ("answer with an unknown extension", GPU, says(forge.SIGNER, critical=True)),
    ("answer that asks to come again", GPU, says(forge.SIGNER, state=3)),
    ("GPU that sends through switches that are not shown", GPU, devices(mode(2))),
    ("GPU that sends through switches and names none", GPU, fields(f36=b"\2\0", f22=bytes(16))),
    ("one GPU by reports of 2023", None, one(
        fields={key: value for key, value in forge.FIELDS.items() if key != 20})),
    ("two GPUs", None, devices(forge.device(), forge.another())),
    ("GPUs with their switch", None, with_switches(forge.switch())),
    ("GPU with its switch, as reports of 2024 say it", None, lambda s: (
        with_switches(forge.switch())(s),
        devices(forge.device(fields=dict(forge.FIELDS) | {21: b"\xaa", 22: forge.LINKS}),
                forge.switch())(s))),
    ("GPUs with encrypted links", None, blackwell),
    ("two boards with one VBIOS", None, rims(
        forge.rims()[0], forge.rim(forge.VBIOS, {1: (True, [bytes(48)])}), forge.rims()[1])),
    ("video decoder that is off, and what it would measure", None, lambda s: s.edit(
        "rims", lambda given: [given[0], forge.rim(
            forge.VBIOS, {1: (True, [forge.VALUES[1]]), 35: (True, [bytes(48)])})])),
    ("answer about revocation by SHA-1 of the CA's key", None, says(forge.SIGNER, hash_="sha1")),
    ("answer about nothing that is here", None, lambda s: s.edit(
        "answers", lambda given: given | {99: forge.answer(99)})),
    ("driver and VBIOS that the policy names", None, accepts(
        drivers=("590.12", "580.1"), vbios=(forge.VBIOS,))),
)  # fmt: skip
