"""Like `test_differential`, for trust domains: every row, and changes drawn from a fixed seed.

Not all their rows are vectors on disk: each carries its maker's collateral of 30 kB.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adversarial import attacks_td, td_forge
from tests.adversarial.ca_forge import AT, FROM, UNTIL, ec_key, rsa_key
from tests.adversarial.forger import Scene
from tests.vectors.test_differential import (
    agree_on_every_row,
    changed_bytes,
    changed_json,
    first,
    second,
)
from tests.vectors.test_differential_chip import changed_octet

ROUNDS = 24
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 29, 1 << 28, 1 << 29, 1 << 40, 1 << 62)
Change = Callable[[Scene, random.Random], object]


def td_again(scene: Scene, rng: random.Random) -> None:
    def changed(td: dict[str, Any]) -> dict[str, Any]:
        key = rng.choice(sorted(td))
        value = td[key]
        if isinstance(value, bytes):
            value = changed_octet(value, rng)
        elif isinstance(value, tuple):
            value = (*value[:3], changed_octet(value[3], rng))
        elif isinstance(value, str):
            value = changed_octet(bytes.fromhex(value), rng).hex()
        else:
            value = rng.choice(NUMBERS[:-4] if key != "attributes" else NUMBERS)
        return td | {key: value}

    scene.edit("td", changed)


def signed_again(scene: Scene, rng: random.Random) -> None:
    """Change any bit that the enclave signs."""
    scene.edit("td_signed", lambda data: changed_octet(data, rng))


def quote_again(scene: Scene, rng: random.Random) -> None:
    scene.edit("td_quote", lambda data: changed_bytes(data, rng))


def lengths_again(scene: Scene, rng: random.Random) -> None:
    at, size = rng.choice(((632, 4), (764, 2), (766, 4), (1218, 2), (1252, 2), (1254, 4)))
    number = rng.choice((0, 1, 5, 6, 31, 33, 4095, 0xFFFF)).to_bytes(size, "little")
    scene.edit("td_quote", lambda data: data[:at] + number + data[at + size :])


def enclave_again(scene: Scene, rng: random.Random) -> None:
    def changed(enclave: dict[str, Any]) -> dict[str, Any]:
        key = rng.choice(("attributes", "signer", "product", "svn", "misc", "auth_data"))
        value = enclave[key]
        changed = changed_octet(value, rng) if isinstance(value, bytes) else rng.choice(NUMBERS[:7])
        return enclave | {key: changed}

    scene.edit("enclave", changed)


def info_again(scene: Scene, rng: random.Random) -> None:
    part = rng.choice(("tcb_info", "qe_identity"))
    scene.edit(part, lambda given: json.loads(changed_json(json.dumps(given).encode(), rng)))


def signed_text_again(scene: Scene, rng: random.Random) -> None:
    """Let the maker sign other bytes."""
    name = rng.choice(("tcb_info", "qe_identity"))

    def changed(given: dict[str, str]) -> dict[str, str]:
        data = changed_bytes(given[name].encode(), rng).decode("ascii", "replace")
        signature = td_forge.raw(ec_key("tcb signer"), data.encode()).hex()
        return given | {name: data, f"{name}_signature": signature}

    scene.edit("collateral", changed)


def collateral_again(scene: Scene, rng: random.Random) -> None:
    scene.edit("collateral_file", lambda data: changed_json(data, rng))


def collateral_bytes_again(scene: Scene, rng: random.Random) -> None:
    scene.edit("collateral_file", lambda data: changed_bytes(data, rng))


def processor_again(scene: Scene, rng: random.Random) -> None:
    """Issue the processor's certificate with random properties."""
    extension = changed_octet(td_forge.sgx_extension(), rng)
    choices: dict[str, tuple[Any, ...]] = {
        "extension": (extension, td_forge.sgx_extension(), None),
        "issuer": (td_forge.PCK_CA, td_forge.ROOT),
        "issuer_key": (ec_key("pck ca"), ec_key("intel root")),
        "start": (FROM, AT, UNTIL),
        "end": (UNTIL, AT),
        "key": (ec_key("pck"), ec_key("pck", "P-384"), rsa_key("ak")),
        "serial": (1, 2, 3, 4711),
    }
    drawn = {name: rng.choice(choices[name]) for name in rng.sample(sorted(choices), 2)}
    if drawn.get("start", FROM) < drawn.get("end", UNTIL):
        chain = (td_forge.pck(**drawn), td_forge.pck_ca(), td_forge.certified_root())
        scene.put("pck_chain", chain)


CHANGES: tuple[Change, ...] = (
    td_again, signed_again, quote_again, lengths_again, enclave_again, info_again,
    signed_text_again, collateral_again, collateral_bytes_again, processor_again,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_verifiers_agree(change: Change, tmp_path: Path) -> None:
    for number in range(ROUNDS):
        rng = random.Random(f"{change.__name__} {number}")  # noqa: S311 - to repeat, not to hide
        scene = Scene(("azure td", "bare td")[number % 2])
        change(scene, rng)
        assert first(scene) == second(scene, tmp_path), number


def test_verifiers_agree_on_every_row(tmp_path: Path) -> None:
    agree_on_every_row(attacks_td.ATTACKS, attacks_td.UNDECIDED, "azure td", tmp_path)
