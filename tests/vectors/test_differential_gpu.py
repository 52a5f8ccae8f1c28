"""Like `test_differential`, for GPUs: every row, and changes drawn from a fixed seed.

Not all their rows are vectors on disk: each carries its maker's collateral of 30 kB.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adversarial import attacks_gpu
from tests.adversarial import nvidia_forge as forge
from tests.adversarial.ca_forge import AT, FROM, UNTIL
from tests.adversarial.forger import Scene
from tests.vectors.test_differential import (
    agree_on_every_row,
    changed_bytes,
    changed_json,
    first,
    second,
)
from tests.vectors.test_differential_chip import changed_octet

ROUNDS = 12
TWO_NAMES = b"\x0c\x3c" + forge.NAME[2:] + forge.NAME
Change = Callable[[Scene, random.Random], object]


def report_again(scene: Scene, rng: random.Random) -> None:
    """Change octets that the device then signs."""
    scene.put("devices", [forge.device(change=lambda data: signed(changed_octet(data[:-96], rng)))])


def lengths_again(scene: Scene, rng: random.Random) -> None:
    def changed(data: bytes) -> bytes:
        return signed(changed_bytes(data[:-96], rng))

    scene.put("devices", [forge.device(change=changed)])


def signed(data: bytes) -> bytes:
    return data + forge.signed(data, forge.DEVICE_KEY)


def fields_again(scene: Scene, rng: random.Random) -> None:
    numbers = (3, 6, 11, 20, 21, 22, 36, 99)
    values = (b"", b"\0", b"\xaa", b"\x55", b"590.12", b"\2\0", b"\1", forge.LINKS, bytes(48))
    fields = dict(forge.FIELDS) | {rng.choice(numbers): rng.choice(values)}
    more = [forge.switch()] if rng.random() < 0.5 else []
    scene.put("devices", [forge.device(fields=fields), *more])


def chain_again(scene: Scene, rng: random.Random) -> None:
    choices: dict[str, tuple[Any, ...]] = {
        "name": (None, forge.named(b"GB100"), forge.named(b"LS_10"), TWO_NAMES),
        "dice": (b"\x30\0", forge.DICE + forge.FWID, forge.DICE + bytes(48)),
        "ca": (True, False),
        "constraints": (True, False, None),
        "path_length": (0, 1, 2, 3),
        "end": (AT, UNTIL, FROM.replace(month=2)),
    }
    drawn = {name: rng.choice(choices[name]) for name in rng.sample(sorted(choices), 2)}
    scene.put("devices", [forge.device(chain=drawn)])


def certificates_again(scene: Scene, rng: random.Random) -> None:
    def changed(gpus: Any) -> Any:
        (one,) = gpus
        place = rng.randrange(5)
        chain = list(one.chain)
        chain[place] = changed_octet(chain[place], rng)
        return (type(one)(report=one.report, chain=tuple(chain)),)

    scene.edit("device_reports", changed)


def rim_again(scene: Scene, rng: random.Random) -> None:
    """Change the RIM's bytes without signing it again."""
    place = rng.randrange(2)
    scene.edit(
        "rims",
        lambda given: [
            changed_bytes(one, rng) if n == place else one for n, one in enumerate(given)
        ],
    )


def measurements_again(scene: Scene, rng: random.Random) -> None:
    """Change the measurements; the RIM is signed as changed."""
    wanted = {rng.choice((0, 1, 3, 4, 35)): (rng.random() < 0.7, [rng.choice(forge.VALUES)])}
    options: dict[str, tuple[Any, ...]] = {
        "leaf_ca": (False, True, None), "product": ("GH100", "GB100", ""),
        "serial": (77, 101, 5), "name": ("SoftwareIdentity", "Other"), "before": ("", "<a/>"),
        "resources": ("", forge.resource("9", "true", [bytes(48)]), "<Resource></Resource>"),
    }  # fmt: skip
    name = rng.choice(sorted(options))
    changed = forge.rim(wanted=wanted, **{name: rng.choice(options[name])})
    scene.edit("rims", lambda given: [changed, *given[1:]])


def answers_again(scene: Scene, rng: random.Random) -> None:
    serial = rng.choice((*forge.BETWEEN, forge.SIGNER))
    options: dict[str, tuple[Any, ...]] = {
        "revoked": (1, 6, None), "unknown": (True,), "start": (AT, UNTIL), "end": (AT, FROM, None),
        "key": (forge.CA_KEY, forge.RESPONDER_KEY), "number": (0, 2), "state": (1, 6),
        "signer": ((), (forge.ca_root(),), (forge.ca_root(), forge.responder())),
        "hash_": ("sha1",), "critical": (True,),
    }  # fmt: skip
    drawn = {name: rng.choice(options[name]) for name in rng.sample(sorted(options), 2)}
    scene.edit("answers", lambda given: given | {serial: forge.answer(serial, **drawn)})


def answer_octets_again(scene: Scene, rng: random.Random) -> None:
    serial = rng.choice((*forge.BETWEEN, forge.SIGNER))
    scene.edit("answers", lambda given: given | {serial: changed_octet(given[serial], rng)})


def collateral_again(scene: Scene, rng: random.Random) -> None:
    scene.edit("gpu_collateral", lambda data: changed_json(data, rng))


def file_again(scene: Scene, rng: random.Random) -> None:
    def changed(given: dict[str, Any]) -> None:
        document = json.loads(changed_json(json.dumps(given).encode(), rng))
        given.clear()
        given.update(document)

    attacks_gpu.json_gpus(changed)(scene)


CHANGES: tuple[Change, ...] = (
    report_again, lengths_again, fields_again, chain_again, certificates_again, rim_again,
    measurements_again, answers_again, collateral_again, file_again,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_verifiers_agree(change: Change, tmp_path: Path) -> None:
    for number in range(ROUNDS):
        rng = random.Random(f"{change.__name__} {number}")  # noqa: S311 - to repeat, not to hide
        scene = Scene("gpu")
        change(scene, rng)
        assert first(scene) == second(scene, tmp_path), number


def test_no_octet_of_an_answer_can_change(tmp_path: Path) -> None:
    """Two readers of DER disagree on which of the other errors mean invalid, and which unknown."""
    for number in range(ROUNDS):
        rng = random.Random(f"answer {number}")  # noqa: S311 - to repeat, not to hide
        scene = Scene("gpu")
        answer_octets_again(scene, rng)
        verdicts = {first(scene)[0], second(scene, tmp_path)[0]}
        assert verdicts <= {"failed", "none"}, number


def test_verifiers_agree_on_every_row(tmp_path: Path) -> None:
    agree_on_every_row(attacks_gpu.ATTACKS, attacks_gpu.UNDECIDED, "gpu", tmp_path)
