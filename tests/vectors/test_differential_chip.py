"""Like `test_differential`, for confidential machines: each change is signed again."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adversarial import chip_forge
from tests.adversarial.ca_forge import AT, FROM, UNTIL, ec_key, rsa_key
from tests.adversarial.forger import Scene
from tests.vectors.test_differential import changed_bytes, changed_json, first, second

ROUNDS = 24
NUMBERS = (0, 1, 2, 3, 5, 8, 9, 10, 1 << 16, 0x3001F, 1 << 18, 1 << 19, 0xFFFFFFFF)


def guest_again(scene: Scene, rng: random.Random) -> None:
    def changed(guest: dict[str, Any]) -> dict[str, Any]:
        key = rng.choice(sorted(guest))
        value = guest[key]
        guest[key] = changed_octet(value, rng) if isinstance(value, bytes) else rng.choice(NUMBERS)
        return guest

    scene.edit("guest", changed)


def changed_octet(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def report_again(scene: Scene, rng: random.Random) -> None:
    """Change any bit that the chip signs, in half of the cases with a matching certificate."""
    body = changed_octet(scene.get("snp"), rng)
    scene.put("snp", body)
    if rng.randrange(2):
        extensions = chip_forge.chip_extensions(body[0x1A0:0x1E0], body[0x180:0x188])
        scene.put("vcek", chip_forge.vcek(extensions=extensions))


def signed_report_again(scene: Scene, rng: random.Random) -> None:
    scene.put("snp_signed", changed_octet(scene.get("snp_signed"), rng))


def index_again(scene: Scene, rng: random.Random) -> None:
    scene.put("hcl", changed_bytes(scene.get("hcl"), rng))


def header_again(scene: Scene, rng: random.Random) -> None:
    report = scene.get("hcl")
    at = rng.choice((0, 4, 8, 12, 1216, 1220, 1224, 1228, 1232))
    number = rng.choice((*NUMBERS, len(report), 4097)).to_bytes(4, "little")
    scene.put("hcl", report[:at] + number + report[at + 4 :])


def runtime_again(scene: Scene, rng: random.Random) -> None:
    scene.put("runtime", changed_json(scene.get("runtime"), rng))


def runtime_bytes_again(scene: Scene, rng: random.Random) -> None:
    scene.put("runtime", changed_bytes(scene.get("runtime"), rng))


def key_again(scene: Scene, rng: random.Random) -> None:
    """Encode the modulus and exponent in the runtime data in odd ways."""

    def changed(runtime: bytes) -> bytes:
        document = json.loads(runtime)
        key = document["keys"][0]
        name = rng.choice("en")
        text = key[name]
        odd = ["", "A", "AAA", "A" + text, text + "=", text + "A", text + "\n", text, " ", "é"]
        odd += [text.replace("-", "+"), text.replace("_", "/")]
        key[name] = rng.choice(odd)
        return json.dumps(document).encode()

    scene.edit("runtime", changed)


def chip_again(scene: Scene, rng: random.Random) -> None:
    """Issue the chip's certificate with random properties."""
    odd = (b"", b"\2\1\x0a", b"\2\2\0\x0a", b"\2\2\0\x80", b"\2\2\1\0", b"\3\1\1", b"\2\1\1\0")
    extensions = chip_forge.chip_extensions()
    extensions[rng.choice(sorted(extensions))] = rng.choice((*odd, chip_forge.CHIP_ID))
    choices: dict[str, tuple[Any, ...]] = {
        "extensions": (extensions, chip_forge.chip_extensions()),
        "issuer": (chip_forge.ASK, chip_forge.ARK),
        "issuer_key": (rsa_key("amd ask"), rsa_key("amd ark")),
        "serial": (0, 1, 0x80),
        "start": (FROM, AT, UNTIL),
        "end": (UNTIL, AT),
        "key": (chip_forge.chip_key(), ec_key("vcek", "P-256"), rsa_key("ak")),
        "critical": (True, False),
    }
    drawn = {name: rng.choice(choices[name]) for name in rng.sample(sorted(choices), 2)}
    if drawn.get("start", FROM) < drawn.get("end", UNTIL):
        scene.put("vcek", chip_forge.vcek(**drawn))


def chip_bytes_again(scene: Scene, rng: random.Random) -> None:
    """Change bits that the maker signed; libraries may differ about unsigned ones."""
    der = bytearray(scene.get("vcek"))
    der[rng.randrange(500)] ^= 1 << rng.randrange(8)
    scene.put("vcek", bytes(der))


CHANGES: tuple[Callable[[Scene, random.Random], None], ...] = (
    guest_again, report_again, signed_report_again, index_again, header_again, runtime_again,
    runtime_bytes_again, key_again, chip_again, chip_bytes_again,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_verifiers_agree(change: Callable[[Scene, random.Random], None], tmp_path: Path) -> None:
    for number in range(ROUNDS):
        rng = random.Random(f"{change.__name__} {number}")  # noqa: S311 - to repeat, not to hide
        scene = Scene("confidential")
        change(scene, rng)
        assert first(scene) == second(scene, tmp_path), number
