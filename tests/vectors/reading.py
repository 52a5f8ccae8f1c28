"""Read a vector file back into bytes (README.md); standard library only, for any verifier."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
# Folders of certificates; `lease/` has vectors of another form, which `leases.py` writes.
FOLDERS = ("forged", "honest")
# Evidence that a verifier may not support yet: a scenario needs it if its policy has such a table.
NEEDS = ("audit", "chip", "evaluation", "gpu", "log", "tdx", "time-authority", "witness")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One scenario.

    `model` gives size and SHA-256 by path; `check` is the first that fails or is open; `audits` are
    certificates with their results.
    """

    name: str
    certificate: bytes
    model: dict[str, tuple[int, str]] | None
    policy: dict[str, str]
    at: datetime
    lockfile: str | None
    nonce: bytes | None
    ancestors: tuple[bytes, ...] | None
    audits: tuple[tuple[bytes, bytes], ...] | None
    verdict: str
    check: str | None
    exit_code: int


def paths() -> list[Path]:
    """Return every file of the corpus, sorted."""
    return sorted(path for folder in FOLDERS for path in (FOLDER / folder).glob("*.json"))


def read(path: Path) -> Vector:
    document = json.loads(path.read_bytes())
    given, expected = document["inputs"], document["expected"]
    model, ancestors, nonce = given["model"], given["ancestors"], given["nonce"]
    audits = given.get("audits")
    return Vector(
        name=document["name"],
        certificate=joined(given["certificate"]),
        model=None if model is None else {p: (f["size"], f["sha256"]) for p, f in model.items()},
        policy=given["policy"],
        at=datetime.fromisoformat(given["at"]),
        lockfile=given["lockfile"],
        nonce=None if nonce is None else bytes.fromhex(nonce),
        ancestors=None if ancestors is None else tuple(joined(one) for one in ancestors),
        audits=(
            None
            if audits is None
            else tuple((joined(one["certificate"]), joined(one["results"])) for one in audits)
        ),
        verdict=expected["verdict"],
        check=expected["check"],
        exit_code=expected["exitCode"],
    )


def joined(pieces: list[dict[str, Any]]) -> bytes:
    """Return the bytes that pieces stand for."""
    return b"".join(_bytes_of(piece) for piece in pieces)


def _bytes_of(piece: dict[str, Any]) -> bytes:
    if "of" in piece:
        return _certificate(piece["of"])[piece["at"] : piece["at"] + piece["size"]]
    data = piece["text"].encode() if "text" in piece else bytes.fromhex(piece["hex"])
    times: int = piece.get("times", 1)
    return data * times


@cache
def _certificate(path: str) -> bytes:
    """Return the certificate of another scenario, which has it in full."""
    return read(FOLDER / path).certificate


def needs(policy: Mapping[str, str]) -> list[str]:
    """Return which of NEEDS the files of a policy require."""
    files = [tomllib.loads(text) for name, text in policy.items() if name.endswith(".toml")]
    return [need for need in NEEDS if any(need in file for file in files)]


def write_policy(vector: Vector, folder: Path) -> Path:
    """Write the policy file into `folder`, beside the files that it names, and return its path."""
    for name, text in vector.policy.items():
        (folder / name).write_text(text)
    return folder / "policy.toml"
