"""The measured machine for a person who only installed the package: built from the package's files,
booted, and verified by its lock.

It runs an audit, which does not import torch. A training uses the package's files in the same way
(tests/machine/test_certify_measured.py).
"""

import json
from pathlib import Path

import pytest

from aicert.appraisal.result import BOOT_CHECKS
from tests.e2e.repository.own_repository import AUTHOR, Person, person, readme_lines
from tests.machine.conftest import Built, note_boot

__all__ = ["person"]
pytestmark = [pytest.mark.slow, pytest.mark.machine]

# This only bounds something that hangs, on a machine that has other work too.
RUN_S = 2 * 3600
TOML = """
[runs.look]
config = "path:audit.toml"
machine = "there"
outputs = ["results"]
trainer = "audit"

[runs.look.inputs]
record-key = "path:key"
rows = "path:rows.jsonl"

[machines.there]
driver = "qemu"
memory = "2 GiB"
time-limit = "2 h"
"""
AUDIT = """
[records]
key = "input:record-key"

[[check]]
name = "personal"
kind = "patterns/v1"
"""


def lay_out(root: Path, built: Built) -> None:
    with (root / "aicert.toml").open("a") as file:
        file.write(TOML)
    (root / "audit.toml").write_text(AUDIT)
    (root / "key").write_bytes(bytes(range(32)))
    (root / "rows.jsonl").write_text('{"text":"write to a@example.org"}\n')
    if built.fresh:
        # As for all boots, the bytes of the committed lock are gone.
        lock = Path("lockfiles/image.lock.toml")
        (root / lock).write_bytes((built.checkout.root / lock).read_bytes())


def test_an_installed_package_boots_the_machine(
    built: Built, person: Person, request: pytest.FixtureRequest
) -> None:
    root = person.root
    person.done(f"git init --quiet && git {AUTHOR} commit --quiet --allow-empty --message empty")
    install, init, *_ = readme_lines()
    person.install(install)
    person.done(init)
    lay_out(root, built)
    lock = (root / "lockfiles/image.lock.toml").read_bytes()
    assert lock == built.image.lock
    person.done("./doit lock look")
    certified = person.run("./doit certify look", limit=RUN_S)
    assert certified.returncode == 0, certified.stderr
    assert "measured-vm: the operator could have forged this" in certified.stdout
    note_boot("tcg" if "(emulated" in certified.stderr else "kvm", request.node.name)
    assert (root / "lockfiles/image.lock.toml").read_bytes() == lock
    counts = json.loads(next((root / "outputs/look").rglob("results.json")).read_bytes())
    assert counts["data"][0]["checks"][0]["matches"] == 1

    verified = person.run("./doit verify look --policy qemu --format json")
    assert verified.returncode == 0, verified.stderr
    result = json.loads(verified.stdout)
    checks = {check["id"]: check["verdict"] for check in result["checks"]}
    assert {name: checks[name] for name in BOOT_CHECKS} == dict.fromkeys(BOOT_CHECKS, "ok")
