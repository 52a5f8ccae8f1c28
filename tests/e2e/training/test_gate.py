"""A run names audits: its machine makes them first, and trains nothing if one fails."""

import json
from pathlib import Path

import pytest

from aicert.audits import lists, results
from aicert.formats import certificate as certificates
from aicert.formats import run_report, statement
from aicert.formats.digest import of_bytes
from tests.e2e.conftest import Checkout, StandIn

pytestmark = pytest.mark.slow

RUNS = """
[runs.look]
config  = "path:mine/audit.toml"
machine = "local"
outputs = ["results"]
trainer = "audit"
default = false

[runs.look.inputs]
alpaca     = "path:examples/alpaca"
record-key = "path:mine/key"
held-out   = "path:mine/held-out.jsonl"
"""
AUDIT = """\
[records]
key = "input:record-key"

[[check]]
name = "held-out"
kind = "passages/v1"
list = "input:held-out"
"""
TRAINS = "weights()\n"


@pytest.fixture
def gated(stand_in: StandIn) -> Checkout:
    """Return a checkout whose example run has an audit before it."""
    checkout = stand_in(TRAINS)
    mine = checkout.root / "mine"
    mine.mkdir()
    (mine / "audit.toml").write_text(AUDIT)
    (mine / "key").write_bytes(bytes(range(32)))
    words = " ".join(f"word{number}" for number in range(60))
    (mine / "held-out.jsonl").write_text(json.dumps({"text": words}) + "\n")
    toml = checkout.root / "aicert.toml"
    head = "[runs.tiny-alpaca]\n"
    text = toml.read_text()
    assert head in text
    toml.write_text(text.replace(head, head + 'audits = ["look"]\n') + RUNS)
    return checkout


def beside(checkout: Checkout, name: str) -> Path:
    return checkout.certificate.with_name(name)


def test_a_run_whose_audits_hold_is_trained_and_names_their_results(gated: Checkout) -> None:
    assert gated.doit("lock", "tiny-alpaca").returncode == 0
    lockfile = (gated.root / "lockfiles" / "tiny-alpaca.lock.toml").read_text()
    assert 'audits = ["look"]\n' in lockfile
    names = [line[8:-1] for line in lockfile.splitlines() if line.startswith("name = ")]
    assert names == ["alpaca", "config", "look-config", "look-held-out", "look-record-key", "model"]
    certified = gated.doit("certify", "tiny-alpaca")
    assert certified.returncode == 0, certified.stderr + certified.stdout
    data = beside(gated, "audit-look.json").read_bytes()
    assert f"audit look held, results {of_bytes(data)}" in certified.stdout
    (fact,) = results.parse(data).data
    assert (fact.name, fact.split, fact.checks[0].matches) == ("alpaca", "train", 0)
    certificate = certificates.parse(gated.certificate.read_bytes())
    report = run_report.parse(statement.parse(certificate.envelope.payload).report)
    assert [(text.name, text.digest) for text in results.parse(data).texts] == list(report.texts)
    assert report.texts


def test_a_run_with_an_audit_that_does_not_hold_is_certified_as_failed(gated: Checkout) -> None:
    assert gated.doit("lock", "tiny-alpaca").returncode == 0
    (first, *_) = (gated.root / "examples" / "alpaca").glob("train*.jsonl")
    instructions = [json.loads(row)["instruction"] for row in first.read_text().splitlines()]
    number = instructions.count(instructions[0])
    listed = lists.exact_digest(bytes(32), instructions[0].encode()).hex()
    (gated.root / "mine" / "held-out.jsonl").write_text(f"salt {'00' * 32}\n{listed}\n")
    check = 'kind = "exact/v1"\ncolumn = "instruction"\n'
    audit = gated.root / "mine" / "audit.toml"
    audit.write_text(AUDIT.replace('kind = "passages/v1"\n', check))
    stale = gated.doit("certify", "tiny-alpaca")
    assert stale.returncode == 2, stale.stderr
    assert "stale: input look-config" in stale.stderr
    assert gated.doit("lock", "tiny-alpaca").returncode == 0
    certified = gated.doit("certify", "tiny-alpaca")
    assert certified.returncode == 1, certified.stderr
    assert (
        f"held-out: rows that match: {number}, and at-most of its config is 0" in certified.stderr
    )
    assert "starting the trainer" not in certified.stderr
    assert not gated.model.exists() or not any(gated.model.iterdir())
    (fact,) = results.parse(beside(gated, "audit-look.json").read_bytes()).data
    assert fact.checks[0].matches == number
    shown = gated.doit("verify", "tiny-alpaca", "--policy", "local")
    assert shown.returncode == 1
    assert "the run failed: it ended with 1" in shown.stdout


def test_an_audit_that_cannot_read_its_list_has_no_results(gated: Checkout) -> None:
    (gated.root / "mine" / "held-out.jsonl").write_text("no list\n")
    audit = gated.root / "mine" / "audit.toml"
    audit.write_text(AUDIT.replace("passages/v1", "exact/v1"))
    assert gated.doit("lock", "tiny-alpaca").returncode == 0
    certified = gated.doit("certify", "tiny-alpaca")
    assert certified.returncode == 1, certified.stderr
    assert "audit look: it ended with 2" in certified.stderr
    assert "list of digests" in certified.stderr
    assert not beside(gated, "audit-look.json").exists()


POLICY = """\
extends = "local"
name = "ours"

[[audit]]
kind = "passages/v1"
list = "sha256:LIST"
at-most = 0
missing = 0
unparsable = 0
unusable = 0
unread-bytes = 0
"""


def test_a_trained_model_passes_a_policy_that_demands_the_audit_before_it(
    checkout: Checkout,
) -> None:
    """Axolotl really trains after the shipped audit of rows and texts, of which the policy names
    none.
    """
    toml = checkout.root / "aicert.toml"
    head = "[runs.tiny-alpaca]\n"
    toml.write_text(toml.read_text().replace(head, head + 'audits = ["tiny-audit"]\n'))
    assert checkout.doit("lock", "tiny-alpaca").returncode == 0
    certified = checkout.doit("certify", "tiny-alpaca")
    assert certified.returncode == 0, certified.stderr
    listed = of_bytes((checkout.root / "examples" / "held-out.jsonl").read_bytes()).hex
    policy = checkout.root / "ours.toml"
    policy.write_text(POLICY.replace("LIST", listed))
    judged = ("verify", "--policy", str(policy), "--root", str(beside(checkout, "ca.pem")))
    shown = checkout.doit(*judged, "--evidence", "certificates", "tiny-alpaca")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "alpaca train for passages/v1: run tiny-alpaca (software)" in shown.stdout
    assert checkout.doit(*judged, "tiny-alpaca").returncode == 2
    policy.write_text(POLICY.replace("LIST", "ab" * 32))
    other = checkout.doit(*judged, "--evidence", "certificates", "tiny-alpaca")
    assert other.returncode == 1
    assert "was audited for passages/v1 with another list" in other.stdout


def test_the_shipped_audit_is_locked_and_holds(stand_in: StandIn) -> None:
    checkout = stand_in("raise SystemExit(1)")
    certified = checkout.doit("certify", "tiny-audit")
    assert certified.returncode == 0, certified.stderr
    assert "PASSED    results of an audit, not a model" in certified.stdout
    data = (checkout.root / "outputs" / "tiny-audit" / "results" / "results.json").read_bytes()
    (fact,) = results.parse(data).data
    assert [counts.matches for counts in fact.checks] == [0, 0]
