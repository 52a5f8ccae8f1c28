"""Attacks on the evidence of a confidential machine: its chip, its guest, and its TPM."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.adversarial import chip_forge
from tests.adversarial.attacks import MALFORMED, Attack
from tests.adversarial.attacks_platform import LAST_YEAR
from tests.adversarial.ca_forge import (
    ec_key,
    rsa_key,
    with_other_algorithm,
    with_unused_bits,
)
from tests.adversarial.forger import Scene

OTHER = bytes(64)


def certified(**options: Any) -> Callable[[Scene], object]:
    """Put a chip certificate with other properties in place of the honest one."""
    return lambda scene: scene.put("vcek", chip_forge.vcek(**options))


def saying(extensions: dict[str, bytes]) -> Callable[[Scene], object]:
    extended = chip_forge.chip_extensions() | extensions
    return certified(extensions={oid: value for oid, value in extended.items() if value})


def guest(**fields: Any) -> Callable[[Scene], object]:
    """Let the chip sign the report of a guest with other properties."""
    return lambda scene: scene.edit("guest", lambda given: given | fields)


def firmware(place: int, version: int) -> Callable[[Scene], object]:
    """Let the chip run another firmware version, with a certificate that matches it."""
    tcb = bytearray(chip_forge.TCB)
    tcb[place] = version

    def change(scene: Scene) -> None:
        guest(tcb=bytes(tcb))(scene)
        certified(extensions=chip_forge.chip_extensions(tcb=bytes(tcb)))(scene)

    return change


def own_maker(scene: Scene) -> None:
    """Use a chip of the builder's own, with certificates that bear the maker's names."""
    scene.chip_key = ec_key("own chip", "P-384")
    certified(key=scene.chip_key, issuer_key=rsa_key("other ask"))(scene)


def debug_hidden(scene: Scene) -> None:
    """Clear the debug flag of a debugged guest's report after the chip signed it."""
    guest(policy=0x3001F | 1 << 19)(scene)
    report = bytearray(scene.get("snp_signed"))
    report[10] &= 0xF7
    scene.put("snp_signed", bytes(report))


def other_chips_report(scene: Scene) -> None:
    scene.chip_key = ec_key("another chip", "P-384")


def algorithm_outside(scene: Scene) -> None:
    """Name another RSASSA-PSS hash outside the signed part than inside."""
    der, sha384 = scene.get("vcek"), bytes.fromhex("608648016503040202")
    scene.put("vcek", with_other_algorithm(der, sha384, sha384[:-1] + b"\x03"))


def unused_bits(scene: Scene) -> None:
    """Declare the last bit of a signature unused, where that bit is zero."""
    candidates = (chip_forge.vcek(serial=serial) for serial in range(1, 128))
    scene.put("vcek", with_unused_bits(next(der for der in candidates if not der[-1] & 1), 256))


def cloud_signed(
    certificate: Callable[[], bytes], *, flags: int = 1 << 2
) -> Callable[[Scene], object]:
    """Let a cloud's key (VLEK) sign the report, for a verifier that accepts such keys."""

    def change(scene: Scene) -> None:
        guest(flags=flags)(scene)
        scene.put("vcek", certificate())
        chips = (*chip_forge.makers(), chip_forge.cloud_keys())
        scene.edit("policy", lambda policy: replace(policy, chips=chips))

    return change


def of_other_line(scene: Scene) -> None:
    """Meet the minimum SVN of one line of processors, on a chip of another line."""
    name = chip_forge.makers()[0].name
    ours = replace(chip_forge.PARAVISOR, chip=name, minimum_svn=1 << 16)
    other = replace(chip_forge.PARAVISOR, chip="another line")
    scene.edit("policy", lambda policy: replace(policy, id_key_signers=(ours, other)))


def retired(scene: Scene) -> None:
    last = (scene.at - timedelta(days=1)).date()
    old = replace(chip_forge.PARAVISOR, until=last)
    scene.edit("policy", lambda policy: replace(policy, id_key_signers=(old,)))


def small_key(scene: Scene) -> None:
    scene.chip_key = ec_key("vcek", "P-256")
    certified(key=scene.chip_key)(scene)


def wrapped(**fields: Any) -> Callable[[Scene], object]:
    def change(scene: Scene) -> None:
        scene.put("hcl", chip_forge.hcl(scene.get("snp_signed"), scene.get("runtime"), **fields))

    return change


def of_another_vm(scene: Scene) -> None:
    """Pair the certified AK of an unprotected machine with the report of a protected one."""
    scene.ak = rsa_key("other vm")


def second(name: str) -> dict[str, Any]:
    return chip_forge.jwk(name, rsa_key("other vm").public_key())


def anothers_report(scene: Scene) -> None:
    """Pair our AK with another machine's report, whose runtime data names that machine's AK."""
    scene.put("runtime", chip_forge.runtime([second("HCLAkPub")]))


def runtime_exchanged(scene: Scene) -> None:
    """Pair another machine's report with runtime data that names our AK."""
    other = chip_forge.runtime([second("HCLAkPub")])
    scene.put("report_data", chip_forge.report_data(other))


def keys(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Scene], object]:
    """Change the keys in the runtime data; the chip's report covers the changed data."""

    def edited(text: bytes) -> bytes:
        document = json.loads(text)
        change(document["keys"])
        return json.dumps(document).encode()

    return lambda scene: scene.edit("runtime", edited)


def ec_attestation_key(scene: Scene) -> None:
    scene.ak = ec_key("ec ak")


def too_long(scene: Scene) -> None:
    scene.edit("runtime", lambda text: text + b" " * 4096)


def json_platform(change: Callable[[dict[str, Any]], object]) -> Callable[[Scene], object]:
    def edited(file: bytes) -> bytes:
        document = json.loads(file)
        change(document["evidence"]["platform"])
        return json.dumps(document).encode()

    return lambda scene: scene.edit("file", edited)


CHIP, GUEST, BINDING = "platform.chip", "platform.guest", "platform.binding"
ROWS: tuple[tuple[str, str, Callable[[Scene], object]], ...] = (
    ("chip certified by somebody with the maker's name", CHIP, own_maker),
    ("chip certified by the maker's root", CHIP, certified(issuer_key=rsa_key("amd ark"))),
    ("chip certificate of a line that is not accepted", CHIP, certified(
        issuer="SEV-Milan", issuer_key=rsa_key("other ask"))),
    ("chip certificate with another algorithm outside", CHIP, algorithm_outside),
    ("chip certificate with unused bits", CHIP, unused_bits),
    ("cloud's key where the chip's is claimed", CHIP, cloud_signed(chip_forge.vlek, flags=0)),
    ("chip's key where a cloud's is claimed", CHIP, cloud_signed(chip_forge.vcek)),
    ("cloud's key certified by another cloud", CHIP, cloud_signed(lambda: chip_forge.vlek(
        issuer_key=rsa_key("amd ask")))),
    ("cloud's key that names no cloud", CHIP, cloud_signed(lambda: chip_forge.vlek(
        extensions=chip_forge.versions(chip_forge.TCB)))),
    ("cloud's key for other firmware", CHIP, cloud_signed(lambda: chip_forge.vlek(
        extensions=chip_forge.versions(bytes(8)) | {"5": chip_forge.CLOUD}))),
    ("chip certificate of another chip", CHIP, saying({"4": OTHER})),
    ("chip certificate for other firmware", CHIP, saying(chip_forge.versions(bytes(8)))),
    ("chip certificate that names no chip", CHIP, saying({"4": b""})),
    ("chip certificate that names no firmware", CHIP, saying({"3.3": b""})),
    ("chip certificate with a negative firmware", CHIP, saying({"3.3": b"\2\1\xff"})),
    ("chip certificate expired", CHIP, certified(end=LAST_YEAR)),
    ("chip certificate with a critical extension", CHIP, certified(critical=True)),
    ("chip certificate with a negative serial number", CHIP, certified(serial=-128)),
    ("chip certificate is no certificate", CHIP, lambda s: s.put("vcek", b"no certificate")),
    ("chip key on a small curve", CHIP, small_key),
    ("report signed by another chip", CHIP, other_chips_report),
    ("debugging hidden after signing", CHIP, debug_hidden),
    ("report with the chip's key masked", CHIP, guest(flags=1 << 1)),
    ("runtime data too long", CHIP, too_long),
    ("report of no paravisor", CHIP, lambda s: s.edit("hcl", lambda h: b"XCLA" + h[4:])),
    ("report cut short", CHIP, lambda s: s.edit("hcl", lambda h: h[:-1])),
    ("report of a few bytes", CHIP, lambda s: s.put("hcl", b"HCLA")),
    ("something after the report", CHIP, lambda s: s.edit("hcl", lambda h: h + b"\0x")),
    ("debugged guest", GUEST, guest(policy=0x3001F | 1 << 19)),
    ("guest that an agent may migrate", GUEST, guest(policy=0x3001F | 1 << 18)),
    ("guest policy without its constant bit", GUEST, guest(policy=0x1001F)),
    ("report asked for from below the paravisor", GUEST, guest(vmpl=2)),
    ("report that the host asked for", GUEST, guest(vmpl=0xFFFFFFFF)),
    ("guest with the builder's own paravisor", GUEST, guest(id_key=b"\x66" * 48)),
    ("guest that nobody signed", GUEST, guest(id_key=bytes(48))),
    ("old paravisor", GUEST, guest(svn=chip_forge.SVN - 1)),
    ("paravisor of another line's number", GUEST, of_other_line),
    ("paravisor that is retired", GUEST, retired),
    ("old boot loader of the processor", GUEST, firmware(0, 9)),
    ("old SNP firmware", GUEST, firmware(6, 26)),
    ("old microcode", GUEST, firmware(7, 85)),
    ("AK certificate of another machine", BINDING, of_another_vm),
    ("report of another machine", BINDING, anothers_report),
    ("runtime data exchanged", BINDING, runtime_exchanged),
    ("more in the report than the digest", BINDING, lambda s: s.edit(
        "report_data", lambda data: data[:32] + b"\1" * 32)),
    ("two attestation keys", BINDING, keys(lambda all_: all_.append(second("HCLAkPub")))),
    ("our key under another name", BINDING, keys(lambda all_: all_[0].update(kid="HCLEkPub"))),
    ("modulus in two encodings", BINDING, keys(lambda all_: all_[0].update(
        n=all_[0]["n"] + "="))),
    ("attestation key of another kind", BINDING, ec_attestation_key),
    ("runtime data is no JSON", BINDING, lambda s: s.put("runtime", b"no JSON")),
    ("platform report of an unknown kind", MALFORMED, json_platform(
        lambda given: given.update(kind="other"))),
    ("platform report too large", MALFORMED, json_platform(
        lambda given: given.update(report="AAAA" * 2731))),
    ("chip certificate too large", MALFORMED, json_platform(
        lambda given: given.update(chipCertificate="AAAA" * 2731))),
    ("platform report with an unknown key", MALFORMED, json_platform(
        lambda given: given.update(note="x"))),
)  # fmt: skip

ATTACKS = tuple(Attack(name, check, change, "confidential") for name, check, change in ROWS)
