"""An audit in the booted machine: certified there, and the same results as anywhere."""

import json
from pathlib import Path

import pytest

from aicert.appraisal.result import BOOT_CHECKS
from aicert.audits import results
from aicert.formats.certificate import parse
from rules.machines.qemu import machine
from tests.machine.conftest import Built, appraised, job_of, verdicts
from tests.unit.aicert.audits.test_config import WHOLE
from tests.unit.aicert.audits.texts import text

pytestmark = [pytest.mark.slow, pytest.mark.machine]

TOML = """
[runs.look]
config = "path:audit.toml"
machine = "there"
outputs = ["results"]
trainer = "audit"

[runs.look.inputs]
alpaca = "path:alpaca"
books = "path:books"
known = "path:known"
opt-out = "path:opt-out"
record-key = "path:record-key"

[machines.there]
driver = "qemu"
memory = "2 GiB"
time-limit = "2 h"
"""
ROWS = [{"url": f"https://a{n}.org/x", "text": text(n, 60)} for n in range(5)]


def lay_out(root: Path) -> None:
    """A project with one run, an audit with all kinds of lists; rows are canonical already."""
    root.mkdir()
    lists = {"books": [{"t": text(2, 55)}], "alpaca": ROWS}
    for name, rows in lists.items():
        (root / name).mkdir()
        lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]
        (root / name / "train.jsonl").write_text("".join(lines))
    (root / "aicert.toml").write_text(TOML)
    (root / "audit.toml").write_text(WHOLE)
    (root / "known").write_text(f"salt {'00' * 32}\n")
    (root / "opt-out").write_text("a3.org\n")
    (root / "record-key").write_bytes(bytes(range(32)))


def test_an_audit_is_certified_in_the_machine(built: Built, tmp_path: Path) -> None:
    root = tmp_path / "project"
    lay_out(root)
    out = machine.execute_in(job_of(root, tmp_path, "look"), built.image)
    judged = appraised(parse((out / "certificate.json").read_bytes()), tmp_path, built.image)
    by_check = verdicts(judged)
    # What was given as a model is an empty folder.
    assert [each.id for each in judged.failed] == ["subject.files"]
    assert {check: by_check[check] for check in BOOT_CHECKS} == dict.fromkeys(BOOT_CHECKS, "ok")
    assert (judged.kind, by_check["outputs.results"]) == ("audit", "ok")
    (fact,) = results.parse((out / "outputs/results/results.json").read_bytes()).data
    assert [each.matches for each in fact.checks] == [1, 0, 1, 0]
    assert fact.rows.count == len(ROWS)
