"""What the members of our locks require, read from the environments made of them.

A hashed lock carries no requirements, and the test that every lock is closed has no network: so the
`Requires-Dist` lines of each member stand in `requirements.json`, written by

    .venv/bin/python -m tests.locks.requirements_of

after a lock was renewed and `./doit test` was run. It holds the digest of each lock; a test refuses
it when the lock is another. Left out are requirements of extras that nobody asks for.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aicert.formats.machine_io import TOOLS
from rules.commands import fuzz, mutants
from rules.dvc import environment as dvc_env
from rules.host import extras, tool_envs, training_env
from rules.host.installer import members
from rules.machines.azure import client
from tests.e2e.lease import broker_process
from tests.oracles import environment

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("requirements.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One locked package, with facts from its own metadata."""

    version: str
    python: str
    requires: tuple[str, ...]


def read() -> dict[str, tuple[str, dict[str, Member]]]:
    """Return, by lock, the lock's recorded digest and its members."""
    document = json.loads(FILE.read_bytes())
    return {
        lock: (
            entry["sha256"],
            {
                name: Member(
                    version=m["version"], python=m["python"], requires=tuple(m["requires"])
                )
                for name, m in entry["members"].items()
            },
        )
        for lock, entry in document.items()
    }


def requested_extras(lock: str) -> Iterator[Requirement]:
    """Yield what the `.in` file beside a lock asks for; locks themselves name no extras."""
    wanted = (ROOT / lock).with_suffix(".in")
    for line in wanted.read_text().splitlines() if wanted.exists() else ():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            yield Requirement(text)


def digest(lock: str) -> str:
    """Return the SHA-256 of a lock's bytes."""
    return hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()


def _places() -> dict[str, Path]:
    """Return where each lock is installed; install it where it is missing."""
    own = Path(sys.prefix)
    dvc = dvc_env.program().parents[1]
    training = training_env.ensure(ROOT)
    tools = {
        **{
            str(tool_envs.lock(each).relative_to(ROOT)): tool_envs.ensure_shown(ROOT, each) / each
            for each in TOOLS
        },
        str(client.LOCK.relative_to(ROOT)): extras.install("azure", client.LOCK),
        "rules/broker-requirements.lock": broker_process.uvicorn_folder(),
        str(fuzz.LOCK): extras.install("fuzz", fuzz.LOCK),
        str(mutants.LOCK): extras.install("mutants", mutants.LOCK),
    }
    oracles = {
        "tests/oracles/requirements.lock": environment.python(),
        "tests/oracles/workflows.lock": environment.python(environment.WORKFLOWS, "workflows"),
        "tests/oracles/azure.lock": environment.python(environment.AZURE, "azure"),
        "tests/oracles/croissant.lock": environment.python(environment.CROISSANT, "croissant"),
        str(environment.SERVING.relative_to(ROOT)): environment.python(
            environment.SERVING, "serving"
        ),
    }
    environments = {
        "rules/build-requirements.lock": own,
        "rules/requirements.lock": own,
        "tests/requirements.lock": own,
        "rules/dvc-requirements.lock": dvc,
        "enclave_runner/requirements.lock": training,
        **{lock: python.parents[1] for lock, python in oracles.items()},
    }
    packages = {
        lock: next(place.glob("lib/python3*/site-packages")) for lock, place in environments.items()
    }
    return packages | tools


def _installed(place: Path) -> dict[str, Distribution]:
    distributions = (PathDistribution(path) for path in place.glob("*.dist-info"))
    return {canonicalize_name(item.metadata["Name"]): item for item in distributions}


def _said(item: Distribution) -> Member:
    return Member(
        version=item.version,
        python=str(item.metadata.json.get("requires_python", "")),
        requires=tuple(item.requires or ()),
    )


def _asks(requirement: Requirement, extras_of: Mapping[str, set[str]]) -> bool:
    """Return whether the requirement applies: it has no extra, or one that somebody asks for."""
    if requirement.marker is None or "extra" not in str(requirement.marker):
        return True
    everybody = {name for names in extras_of.values() for name in names}
    return any(f'extra == "{name}"' in str(requirement.marker) for name in everybody)


def _document() -> dict[str, Any]:
    before = {lock: own for lock, (_, own) in read().items()}
    document: dict[str, Any] = {}
    for lock, place in sorted(_places().items()):
        pinned = members((ROOT / lock).read_text(encoding="ascii"))
        packages = {name: _said(item) for name, item in _installed(place).items()}
        for name in pinned.keys() - packages.keys():
            # A package may be closed off from the environment since: then keep what this version
            # listed before.
            packages[name] = before[lock][name]
            assert f"{name}=={packages[name].version} " in pinned[name], f"{lock}: no {name}"
        names = sorted(pinned)
        lines = {name: [Requirement(text) for text in packages[name].requires] for name in names}
        extras_of: dict[str, set[str]] = {}
        for requirement in (*requested_extras(lock), *(r for own in lines.values() for r in own)):
            extras_of.setdefault(canonicalize_name(requirement.name), set()).update(
                requirement.extras
            )
        document[lock] = {
            "sha256": digest(lock),
            "members": {
                name: {
                    "version": packages[name].version,
                    "python": packages[name].python,
                    "requires": sorted({str(r) for r in lines[name] if _asks(r, extras_of)}),
                }
                for name in names
            },
        }
    return document


if __name__ == "__main__":
    FILE.write_text(json.dumps(_document(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
