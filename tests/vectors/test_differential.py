"""Two verifiers that share no code give one verdict on scenes that were changed and re-signed.

The table's attacks are those that somebody thought of. Here each change is drawn from a fixed seed,
so that a run is the same everywhere; `aicert` and `tests.second.verifier` must agree on the verdict
and on the first check that fails.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.formats.paths import check_paths
from tests.adversarial.attacks import MALFORMED, Attack
from tests.adversarial.ca_forge import (
    AT,
    EKU_AK,
    EKU_EK,
    FROM,
    UNTIL,
    ec_key,
    issue,
    usage,
)
from tests.adversarial.forger import AZURE_LIKE, Scene
from tests.second import chain as second_chain
from tests.second import forms as second_forms
from tests.second import verifier as second_verifier
from tests.vectors import generate

ROUNDS = 40
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**62, 0.5, "", "0", "1", "x", "é", "sha256:", [], {}, [0], [""],
    {"x": 1}, "00" * 32, "signal:9", "2026-10-31T10:00:00Z", "2026-02-30T10:00:00Z", "model/",
    "../x", "a/b", "A", "model/config.json", "measured", "derived",
)  # fmt: skip


def spots(value: Any, into: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Collect every (container, key) of a JSON document."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        into.append((value, key))
        if isinstance(value[key], dict | list):
            spots(value[key], into)
    return into


def changed_json(data: bytes, rng: random.Random) -> bytes:
    document = json.loads(data)
    container, key = rng.choice(spots(document, []))
    how = rng.randrange(5)
    if how == 0:
        del container[key]
    elif how == 1 and isinstance(container, dict):
        container[rng.choice(["note", "name", "digest", "sha512", "value"])] = container[key]
    elif how == 2 and isinstance(container, list):
        container.insert(rng.randrange(len(container) + 1), container[key])
    elif how == 3 and isinstance(container[key], str) and container[key]:
        container[key] = changed_text(container[key], rng)
    else:
        container[key] = rng.choice(STRANGE)
    return json.dumps(document, separators=(",", ":")).encode()


def changed_text(text: str, rng: random.Random) -> str:
    position = rng.randrange(len(text))
    return text[:position] + rng.choice("aA0/.-:\u00e9 \u200b") + text[position + 1 :]


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    position = rng.randrange(len(changed))
    how = rng.randrange(4)
    if how == 0:
        changed[position] ^= 1 << rng.randrange(8)
    elif how == 1:
        changed[position] = rng.choice((0, 1, 10, 13, 32, 34, 92, 127, 255))
    elif how == 2:
        del changed[position : position + rng.randrange(1, 5)]
    else:
        changed[position:position] = rng.choice(
            (b"\0", b"\n", b" ", changed[: rng.randrange(1, 9)])
        )
    return bytes(changed)


def quote_again(scene: Scene, rng: random.Random) -> None:
    scene.edit("quote_attest", lambda data: changed_bytes(data, rng))


def certify_again(scene: Scene, rng: random.Random) -> None:
    scene.edit("certify_attest", lambda data: changed_bytes(data, rng))


def public_again(scene: Scene, rng: random.Random) -> None:
    scene.edit("run_public", lambda data: changed_bytes(data, rng))


def quote_signature_again(scene: Scene, rng: random.Random) -> None:
    data = scene.get("quote_signature")
    scene.put("quote_signature", changed_bytes(data, rng))


def report_again(scene: Scene, rng: random.Random) -> None:
    scene.put("report_bytes", changed_json(scene.get("report_bytes"), rng))


def statement_again(scene: Scene, rng: random.Random) -> None:
    scene.put("payload", changed_json(scene.get("payload"), rng))


def payload_again(scene: Scene, rng: random.Random) -> None:
    scene.put("payload", changed_bytes(scene.get("payload"), rng))


def lockfile_again(scene: Scene, rng: random.Random) -> None:
    # Characters beyond ASCII never get into a certificate file.
    changed = bytes(octet & 0x7F for octet in changed_bytes(scene.get("lockfile_bytes"), rng))
    scene.put("lockfile_bytes", changed)


def chain_again(scene: Scene, rng: random.Random) -> None:
    scene.put("chain", tuple(changed_bytes(der, rng) for der in scene.get("chain")))


def random_properties(rng: random.Random) -> dict[str, Any]:
    """Return properties of a good certificate, with one or two drawn at random."""
    choices: dict[str, tuple[Any, ...]] = {
        "ca": (True, False, None),
        "path_length": (0, 1, None),
        "key_usage": (None, usage(), usage(cert=True), usage(sign=False)),
        "purposes": ((), (EKU_AK,), (EKU_EK,), (EKU_AK, EKU_EK), ("2.5.29.37.0",)),
        "driver": (None, "local", "qemu"),
        "start": (FROM, AT),
        "end": (AT, UNTIL),
        "authority": (None, ec_key("elsewhere")),
        "subject": (AZURE_LIKE, "middle"),
    }  # fmt: skip
    drawn = rng.sample(sorted(choices), rng.randrange(0, 3))
    return {name: rng.choice(choices[name]) for name in drawn}


def chain_rebuilt(scene: Scene, rng: random.Random) -> None:
    """Rebuild the chain with up to two intermediates, at times the root, at random."""
    issuer, key = scene.ca_name, scene.ca_key
    chain: list[bytes] = []
    for number in range(rng.choice((0, 1, 1, 2))):
        own = ec_key(f"middle {number}", rng.choice(("P-256", "P-384")))
        good: dict[str, Any] = {"ca": True, "key_usage": usage(cert=True), "driver": scene.driver}
        given = good | {"subject": f"middle {number}"} | random_properties(rng)
        subject = given.pop("subject")
        chain.insert(0, issue(subject, own, issuer=issuer, issuer_key=key, **given))
        issuer, key = subject, own
    given = scene.get("ak_options") | random_properties(rng) | {"issuer": issuer, "issuer_key": key}
    chain.insert(0, issue(given.pop("subject", AZURE_LIKE), scene.ak, **given))
    if rng.randrange(4) == 0:
        chain.append(scene.get("root"))
    scene.put("chain", tuple(chain))


def certificate_again(scene: Scene, rng: random.Random) -> None:
    scene.put("file", changed_json(scene.get("file"), rng))


def file_again(scene: Scene, rng: random.Random) -> None:
    scene.put("file", changed_bytes(scene.get("file"), rng))


CHANGES: tuple[Callable[[Scene, random.Random], None], ...] = (
    quote_again, certify_again, public_again, quote_signature_again, report_again, statement_again,
    payload_again, lockfile_again, chain_again, chain_rebuilt, certificate_again, file_again,
)  # fmt: skip


# Case and compatibility twins, characters like a slash, invisible ones, folders and files.
ATOMS = (
    "a", "A", "b", ".", "..", "/", "//", "/x", "\\", "\0", "\n", " ", "\u00e9", "e\u0301", "\u00c9",
    "\u00df", "ss", "SS", "\ufb01", "fi", "\u2100", "a/c", "\u200b", "\u202e", "\u0131", "I", "i",
    "\u0130", "K", "\u212a", "k", "\u01c6", "\u01c5", "\u1e9e", "\ud800", "\u0345", "\u1fb3",
    "\u00b5", "\u03bc", "\u2126", "\u017f", "\ufb05", "\u2024", "\u2026", "\u00bd", "\u00a0",
    "^", "\u037e", ";", "a" * 256,
)  # fmt: skip


def some_paths(count: int) -> Iterator[list[str]]:
    """Yield one to three odd paths at a time."""
    rng = random.Random(0)  # noqa: S311 - to repeat, not to hide
    for _ in range(count):
        names = ("".join(rng.choices(ATOMS, k=rng.randrange(1, 5))) for _ in range(3))
        yield list(dict.fromkeys(names))[: rng.randrange(1, 4)]


def test_verifiers_agree_on_paths() -> None:
    accepted = 0
    for paths in some_paths(4000):
        verdicts = [_takes(check_paths, paths), _takes(second_forms.check_paths, paths)]
        assert verdicts[0] == verdicts[1], ascii(paths)
        accepted += verdicts[0]
    assert 400 < accepted < 3600


def _takes(check: Callable[[list[str]], None], paths: list[str]) -> bool:
    try:
        check(paths)
    except (EvidenceError, second_chain.NoError, UnicodeEncodeError):
        return False
    return True


def first(scene: Scene) -> tuple[str, str | None]:
    try:
        result = scene.appraise()
    except EvidenceError:
        return "malformed", None
    reasons = result.failed or result.undecided
    return result.verdict, reasons[0].id if reasons else None


def second(scene: Scene, folder: Path) -> tuple[str, str | None]:
    for name, text in generate.policy_files(scene.get("policy")).items():
        (folder / name).write_text(text)
    policy, roots = second_chain.read_policy(folder / "policy.toml")
    return second_verifier.judge(
        second_verifier.Question(
            certificate=scene.get("file"),
            policy=policy,
            roots=roots,
            at=scene.at,
            model={path: fact.sha256 for path, fact in scene.get("model").items()},
        )
    )


def agree_on_every_row(
    rows: Iterable[Attack], undecided: Iterable[Any], kind: str, tmp_path: Path
) -> None:
    """Check that the second verifier agrees with the tables; `undecided` changes `kind` scenes."""
    for attack in rows:
        scene = Scene(attack.kind)
        attack.change(scene)
        is_read = attack.check != MALFORMED
        wanted = ("failed", attack.check) if is_read else (MALFORMED, None)
        assert second(scene, tmp_path) == wanted, attack.name
    for name, check, change in undecided:
        scene = Scene(kind)
        change(scene)
        verdict = "passed" if check is None else "none"
        assert second(scene, tmp_path) == (verdict, check), name


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_verifiers_agree(change: Callable[[Scene, random.Random], None], tmp_path: Path) -> None:
    for number in range(ROUNDS):
        rng = random.Random(f"{change.__name__} {number}")  # noqa: S311 - to repeat, not to hide
        scene = Scene("cloud" if number % 3 == 0 else "local", 1 + number % 2)
        change(scene, rng)
        assert first(scene) == second(scene, tmp_path), number
