"""A run whose lockfile lets code of an input run, from `certify` to the verdict of others."""

import json

import tomlkit

from aicert.formats.certificate import parse
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from tests.e2e.conftest import Checkout, StandIn

GOOD = "say(1, 3)\nweights()\n"


def allow(checkout: Checkout, key: str) -> None:
    """Say of the base model what lets its code run."""
    path = checkout.root / "aicert.toml"
    document = tomlkit.parse(path.read_text())
    inputs = document["runs"]["tiny-alpaca"]["inputs"]
    model = tomlkit.inline_table()
    model.update({"from": inputs["model"], key: True})
    inputs["model"] = model
    path.write_text(tomlkit.dumps(document))


def test_it_is_kept_and_no_verdict_of_anybody_who_does_not_allow_it(stand_in: StandIn) -> None:
    checkout = stand_in(GOOD)
    allow(checkout, "allow-remote-code")
    assert checkout.doit("lock").returncode == 0
    done = checkout.doit("certify")
    assert done.returncode == 0, done.stderr
    assert (
        "code that came with input model of run tiny-alpaca ran in the trainer"
        in done.stdout + done.stderr
    )
    statement = parse_statement(parse(checkout.certificate.read_bytes()).envelope.payload)
    report = parse_report(statement.report)
    assert {value.origin for value in report.values.values()} == {"self-reported"}
    assert report.loss is not None
    assert report.loss.state == "no-loss"

    verified = checkout.doit("verify", "--policy", "local", "--format", "json")
    checks = {one["id"]: one["verdict"] for one in json.loads(verified.stdout)["checks"]}
    assert verified.returncode == 2
    assert {name for name, verdict in checks.items() if verdict == "failed"} == set()
    assert checks["policy.claims"] == "not-checked"

    ca = checkout.root / ".aicert/ca/local.pem"
    (checkout.root / "team.toml").write_text('extends = "local"\nallow = ["remote-code"]\n')
    allowed = checkout.doit("verify", "--policy", "team.toml", "--root", str(ca))
    assert allowed.returncode == 0, allowed.stderr
