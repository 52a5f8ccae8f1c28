"""With several runs: which of them certify executes or skips, and what `why` and `graph` print."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout, StandIn

TOML = """\
# What to certify.
[runs.one]
config = "path:one.yml"   # the first
machine = "local"
outputs = ["model"]
[runs.one.inputs]
model = "path:examples/tiny-llama"
data = "path:first"

[runs.two]
config = "path:two.yml"
machine = "local"
outputs = ["model"]
[runs.two.inputs]
model = "path:examples/tiny-llama"
data = "path:second"

[machines.local]
driver = "local"
"""


@pytest.fixture
def two(stand_in: StandIn) -> Checkout:
    checkout = stand_in("say(1, 3)\nweights()\n")
    config = (checkout.root / "examples" / "tiny-alpaca.yml").read_text()
    (checkout.root / "aicert.toml").write_text(TOML)
    for run, folder in (("one", "first"), ("two", "second")):
        (checkout.root / f"{run}.yml").write_text(config.replace("input:alpaca", "input:data"))
        (checkout.root / folder).mkdir()
        (checkout.root / folder / "train.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    for old in (checkout.root / "lockfiles").glob("*"):
        if old.is_file():
            old.unlink()
    done = checkout.doit("lock")
    assert done.returncode == 0, done.stderr
    return checkout


def certificates(checkout: Checkout) -> dict[str, int]:
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in Path(checkout.root, "certificates").glob("*/certificate.json")
    }


def test_runs_go_in_parallel_and_then_only_what_changed(two: Checkout) -> None:
    why = two.doit("why")
    assert "one: would run: run one has no certificate" in why.stdout
    both = two.doit("certify", "-n", "2")
    assert both.returncode == 0, both.stderr
    first = certificates(two)
    assert sorted(first) == ["one", "two"]
    assert two.processes() == []

    toml = two.root / "aicert.toml"
    toml.write_text(toml.read_text().replace("# the first", "# one of two") + "# end\n")
    (two.root / "one.yml").touch()
    assert two.doit("why").stdout == "one: up to date\ntwo: up to date\n"
    again = two.doit("certify", "-n", "2")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert certificates(two) == first

    data = two.root / "second" / "train.jsonl"
    before = data.stat()
    data.write_text(data.read_text().replace("b", "c"))
    stale = two.doit("why", "two")
    assert stale.stdout.startswith("two: would stop: lockfile of run two is stale: input data\n")
    assert stale.stdout.count("dirHash:") == 2
    refused = two.doit("certify")
    assert refused.returncode == 2
    assert certificates(two) == first
    assert before.st_size == data.stat().st_size

    assert two.doit("lock", "two").returncode == 0
    reason = two.doit("why", "two").stdout
    assert reason.startswith(
        "two: would run: the certificate is for a different lockfile\n  was   sha256:"
    )
    assert "\ninput data\n" in reason
    assert not [line for line in reason.splitlines() if len(line) > 80]
    done = two.doit("certify")
    assert done.returncode == 0, done.stderr
    second = certificates(two)
    assert second["one"] == first["one"]
    assert second["two"] != first["two"]

    weights = two.root / "outputs" / "one" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert "does not pass: subject.files" in two.doit("why", "one").stdout

    for file in weights.parent.iterdir():
        file.unlink()
    # This is the state after a training that failed and made nothing: the certificate decides.
    assert "the certificate does not pass: " in two.doit("why", "one").stdout

    both = two.doit("verify", "--policy", "local")
    # Nothing says that the model which is not here is another one.
    assert both.returncode == 2
    assert "run one: no verdict: its output is not here: outputs/one/model" in both.stderr
    assert both.stdout.startswith("run one\n")
    assert "\n\nrun two\n" in both.stdout
    asked = two.doit("verify", "two", "--policy", "qemu")
    assert "error: policy qemu uses this checkout's CA" in asked.stderr
    assert "hint: ./doit certify two\n" in asked.stderr

    graph = two.doit("graph")
    assert graph.returncode == 0
    assert "two  certified\n" in graph.stdout
    assert "  -> model  dirHash:" in graph.stdout.partition("two  certified")[2]
    assert "  by certificates/two/certificate.json\n" in graph.stdout
    assert "  -> model  not certified\n" in graph.stdout
    assert "  <- data    path:second  dirHash:" in graph.stdout
    assert not [line for line in graph.stdout.splitlines() if len(line) > 80]
    drawn = two.doit("graph", "--format", "svg")
    picture = ET.fromstring(drawn.stdout)  # noqa: S314  we drew it ourselves
    assert len(picture.findall("{*}rect")) == 8


def test_a_failure_in_parallel_is_told_as_in_order(two: Checkout) -> None:
    (two.root / "second" / "train.jsonl").write_text("{}\n")
    failed = two.doit("certify", "-n", "2")
    assert failed.returncode == 2, failed.stderr
    assert "error: lockfile of run two is stale" in failed.stderr
    assert "Traceback" not in failed.stderr
