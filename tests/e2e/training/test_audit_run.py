"""An audit as a run: locked, certified by the real runner, and queried for proofs afterwards."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout, StandIn

pytestmark = pytest.mark.slow

RUN = """
[runs.look]
config  = "path:mine/audit.toml"
machine = "local"
outputs = ["results"]
trainer = "audit"
default = false

[runs.look.inputs]
rows       = "path:mine/rows"
record-key = "path:mine/key"
opt-out    = "path:mine/domains"
"""
AUDIT = """\
[records]
key = "input:record-key"

[[check]]
name = "opt-out"
kind = "domains/v1"
column = "url"
list = "input:opt-out"
"""
ROWS = [f'{{"url":"https://a{n}.org/{n}"}}' for n in range(5)]


@pytest.fixture
def audited(stand_in: StandIn) -> Checkout:
    """Return a checkout with a run that is an audit, so nothing in it is trained."""
    checkout = stand_in("raise SystemExit(1)")
    mine = checkout.root / "mine"
    (mine / "rows").mkdir(parents=True)
    (mine / "rows" / "train.jsonl").write_text("".join(f"{row}\n" for row in ROWS))
    (mine / "audit.toml").write_text(AUDIT)
    (mine / "key").write_bytes(bytes(range(32)))
    (mine / "domains").write_text("a3.org\n")
    with (checkout.root / "aicert.toml").open("a") as file:
        file.write(RUN)
    return checkout


def aicert(checkout: Checkout, *words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "aicert", *map(str, words)],
        cwd=checkout.root, env=checkout.environment, capture_output=True, text=True,
    )  # fmt: skip


def test_an_audit_is_certified_and_proves_a_row(audited: Checkout, tmp_path: Path) -> None:
    assert audited.doit("lock", "look").returncode == 0
    certified = audited.doit("certify", "look")
    assert certified.returncode == 0, certified.stderr
    assert "starting the trainer" not in certified.stderr
    assert "PASSED    results of an audit, not a model (software: the operator" in certified.stdout
    results = audited.root / "outputs" / "look" / "results" / "results.json"
    (fact,) = json.loads(results.read_text())["data"]
    assert (fact["name"], fact["split"], fact["rows"]["count"]) == ("rows", "train", 5)
    assert [check["matches"] for check in fact["checks"]] == [1]

    proof, row = tmp_path / "proof.json", tmp_path / "row"
    mine = audited.root / "mine"
    proven = aicert(
        audited, "prove-record", mine / "rows", "--name=rows", "--key", mine / "key",
        "--results", results, "--row=4",
    )  # fmt: skip
    proof.write_text(proven.stdout)
    certificates = audited.root / "certificates" / "look"
    trusted = ("--policy=local", "--root", certificates / "ca.pem")
    for text, code in ((ROWS[3], 0), (ROWS[2], 1)):
        row.write_text(f"{text}\n")
        done = aicert(
            audited, "verify-proof", proof, row, "--results", results,
            "--certificate", certificates / "certificate.json", *trusted,
        )  # fmt: skip
        assert done.returncode == code, done.stderr


def test_an_audit_whose_list_cannot_be_read_has_a_certificate_of_failure(audited: Checkout) -> None:
    (audited.root / "mine" / "domains").write_bytes(b"\xff\n")
    assert audited.doit("lock", "look").returncode == 0
    certified = audited.doit("certify", "look")
    assert certified.returncode == 1, certified.stderr
    assert "list of domains is not UTF-8" in certified.stderr
    certificate = audited.root / "certificates" / "look" / "certificate.json"
    shown = aicert(
        audited, "verify", certificate, "--certificate-only", "--policy=local",
        "--root", certificate.with_name("ca.pem"),
    )  # fmt: skip
    assert shown.returncode == 1
    assert "ended with 2" in shown.stdout
