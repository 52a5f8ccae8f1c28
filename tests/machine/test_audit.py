"""Audits in the booted machine: with the same results as elsewhere, and before a training."""

import json
import shutil
from pathlib import Path

import pytest

from aicert.audits import results
from tests.machine.conftest import Boot, Built, appraised, name_audit, passed_in_machine
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
    """Make a project with one run, an audit with all kinds of lists. Its rows are already
    canonical.
    """
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
    shown = {"kind": "audit", "check": "outputs.results"}
    out = passed_in_machine(built, root, tmp_path, "look", **shown)
    (fact,) = results.parse((out / "outputs/results/results.json").read_bytes()).data
    assert [each.matches for each in fact.checks] == [1, 0, 1, 0]
    assert fact.rows.count == len(ROWS)


def test_nothing_is_trained_after_an_audit_that_does_not_hold(
    boot: Boot, built: Built, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    shutil.copytree(built.checkout.root / "examples", root / "examples")
    shutil.copy(built.checkout.root / "aicert.toml", root)
    name_audit(root)
    # An evaluation of which a text stands in the data too.
    words = text(1, 60)
    shared = {
        "held-out.jsonl": {"text": words},
        "alpaca/train.jsonl": {"instruction": "Go on.", "input": "", "output": words},
    }
    for name, row in shared.items():
        with (root / "examples" / name).open("a") as file:
            file.write(json.dumps(row) + "\n")
    certificate = boot(root=root, time_limit=300)
    result = appraised(certificate, tmp_path, built.image)
    assert [check.id for check in result.failed][:1] == ["outputs.exit"]
    out = tmp_path / "work/out"
    (fact,) = results.parse((out / "audit-tiny-audit.json").read_bytes()).data
    assert fact.checks[0].matches == 1
