"""A lockfile lets code of an input run: from `certify` to the verdict of other people."""

import json

import pytest
import tomlkit

from aicert.formats.certificate import parse
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from rules.example import example
from tests.e2e.conftest import Checkout, StandIn

GOOD = "say(1, 3)\nweights()\n"
OWN_CONFIG = """from transformers import LlamaConfig
class OwnConfig(LlamaConfig):
    model_type = "own"
"""
OWN_MODEL = """from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
print("the model's own code runs", flush=True)
"""
OWN_JSON = {
    "model_type": "own",
    "architectures": ["OwnForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    },
}


def allow(checkout: Checkout, key: str) -> None:
    """Set the key of the base model that lets its code run."""
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


def bring_code(checkout: Checkout) -> None:
    """Give the example's model code of its own, under a name that Transformers does not know."""
    example.make_example(checkout.root)
    model = checkout.root / example.MODEL
    settings = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(settings | OWN_JSON))
    (model / "configuration_own.py").write_text(OWN_CONFIG)
    (model / "modeling_own.py").write_text(OWN_MODEL)
    config = checkout.root / "examples/tiny-alpaca.yml"
    few = config.read_text().replace("max_steps: 40", "max_steps: 4")
    config.write_text(few + "trust_remote_code: true\n")


@pytest.mark.slow
def test_a_model_with_code_of_its_own_is_trained_where_its_input_allows_it(
    checkout: Checkout,
) -> None:
    bring_code(checkout)
    refused = checkout.doit("lock", "tiny-alpaca")
    assert refused.returncode != 0
    assert "set `allow-remote-code = true` at its input" in refused.stderr

    allow(checkout, "allow-remote-code")
    locked = checkout.doit("lock", "tiny-alpaca")
    assert locked.returncode == 0, locked.stderr
    done = checkout.doit("certify", "tiny-alpaca")
    assert done.returncode == 0, done.stderr
    assert "code that came with input model of run tiny-alpaca ran in the trainer" in done.stdout
    assert json.loads((checkout.model / "config.json").read_bytes())["model_type"] == "own"
    assert (checkout.model / "modeling_own.py").read_text() == OWN_MODEL
    statement = parse_statement(parse(checkout.certificate.read_bytes()).envelope.payload)
    report = parse_report(statement.report)
    assert report.number("steps") == 4
    assert {value.origin for value in report.values.values()} == {"self-reported"}
