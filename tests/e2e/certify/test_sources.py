"""Inputs from other places and from other runs, with `./doit` used as people use it."""

import os
import signal
import threading
from pathlib import Path

from aicert.sources.transfer import READ_S
from rules.example import example
from tests.e2e.conftest import Checkout, StandIn, kill_group, wait_for
from tests.unit import hub_server
from tests.unit.hub_server import COMMIT, File
from tests.unit.servers import Reply

# The weights differ each time, as after a retraining on other hardware.
TRAINED = "weights(os.urandom(8))\n(output / 'config.json').write_text('{}')\n"
CHAIN = """
[runs.next]
config = "path:examples/tiny-alpaca.yml"
machine = "local"
outputs = ["model"]

[runs.next.inputs]
model = "run:tiny-alpaca/model"
alpaca = "path:examples/alpaca"
"""


def test_a_run_builds_on_a_run(stand_in: StandIn) -> None:
    checkout = stand_in(TRAINED)
    with (checkout.root / "aicert.toml").open("a") as file:
        file.write(CHAIN)
    lockfile = checkout.root / "lockfiles" / "next.lock.toml"
    done = checkout.doit("lock", "next")
    assert done.returncode == 2
    assert "./doit certify tiny-alpaca" in done.stderr
    done = checkout.doit("certify", "next")
    assert done.returncode == 2
    assert "now has its first lockfile, since its inputs exist" in done.stderr
    assert 'uri = "run:tiny-alpaca/model"' in lockfile.read_text()
    assert not (checkout.root / "certificates/next").exists()
    done = checkout.doit("certify", "next")
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in checkout.doit("certify").stderr

    reviewed = lockfile.read_bytes()
    checkout.certificate.unlink()
    done = checkout.doit("certify", "next")
    assert done.returncode == 2
    assert "lockfile of run next is stale: input model" in done.stderr
    assert lockfile.read_bytes() == reviewed, "never silently new"
    assert checkout.doit("verify", "next", "--policy", "local").returncode == 0

    lockfile.unlink()
    done = checkout.doit("certify", "next", "--accept")
    assert done.returncode == 0, done.stderr
    assert lockfile.read_bytes() != reviewed


def test_inputs_from_the_hub(stand_in: StandIn) -> None:
    checkout = stand_in(TRAINED)
    example.make_example(checkout.root)
    data = (checkout.root / "examples/alpaca/train.jsonl").read_bytes()
    text = (checkout.root / "aicert.toml").read_text()
    text = text.replace('"path:examples/alpaca"', '"hf:datasets/org/alpaca@main"')
    (checkout.root / "aicert.toml").write_text(text)
    with hub_server.running() as hub:
        hub.add("datasets/org/alpaca", {"train.jsonl": File(data=data, lfs=True)})
        online = Checkout(
            root=checkout.root,
            environment=checkout.environment
            | {"HF_ENDPOINT": hub.front.url, "HF_TOKEN": "hf_S3CRET", "HF_HUB_OFFLINE": "0"},
        )
        done = online.doit("certify")
        assert done.returncode == 2
        assert "aicert.toml hf:datasets/org/alpaca@main" in done.stderr
        done = online.doit("lock")
        assert done.returncode == 0, done.stderr
        assert hub.cdn.requests == []
        assert online.doit("lock", "--check").returncode == 0
        interrupt_a_stalled_fetch(online, hub, len(data))
        kill_while_fetching(online, hub, len(data))
        done = online.doit("fetch")
        # The example's other runs have the same input.
        expected = "tiny-alpaca: fetched alpaca\ntiny-alpaca-measured: everything is here\n"
        expected += "tiny-audit: everything is here\ntiny-eval: everything is here\n"
        assert (done.returncode, done.stdout) == (0, expected)
        assert hub.cdn.requests[-1].headers["Range"] == f"bytes={len(data) // 2}-"
        done = online.doit("certify")
        assert done.returncode == 0, done.stderr
        lockfile = (checkout.root / "lockfiles/tiny-alpaca.lock.toml").read_text()
        assert f'uri = "hf:datasets/org/alpaca@{COMMIT}"' in lockfile
    # Recognising a certified run needs no network; comparing it with its sources does.
    assert "nothing to do" in online.doit("certify").stderr
    done = online.doit("lock", "--check")
    assert done.returncode == 2
    assert "cannot reach 127.0.0.1" in done.stderr
    for folder in ("certificates", "lockfiles", ".aicert"):
        for path in (checkout.root / folder).rglob("*"):
            assert not path.is_file() or b"S3CRET" not in path.read_bytes(), path


def partial_sizes(checkout: Checkout) -> list[int]:
    partial = Path(checkout.environment["AICERT_CACHE"]) / "store" / "partial"
    return [path.stat().st_size for path in partial.glob("*")]


def interrupt_a_stalled_fetch(checkout: Checkout, hub: hub_server.Hub, size: int) -> None:
    """Receive a quarter of the file before the server stalls, and press Ctrl-C, which does not
    wait.
    """
    hold = threading.Event()
    hub.faults["train.jsonl"] = [Reply(cut=size // 4, hold=hold)]
    with checkout.start("fetch") as process:
        wait_for(
            lambda: partial_sizes(checkout) == [size // 4] or process.poll() is not None,
            "a quarter",
        )
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        # The server is still stalled, and reading from it would end only after READ_S.
        _, printed = process.communicate(timeout=READ_S / 2)
    hold.set()
    assert process.returncode == 130, printed
    assert printed.endswith("interrupted\n")
    assert partial_sizes(checkout) == [size // 4]


def kill_while_fetching(checkout: Checkout, hub: hub_server.Hub, size: int) -> None:
    """Receive half of the file; the rest never arrives, and the process is killed."""
    hold = threading.Event()
    hub.faults["train.jsonl"] = [Reply(cut=size // 2 - size // 4, hold=hold)]
    with checkout.start("fetch") as process:
        wait_for(
            lambda: partial_sizes(checkout) == [size // 2] or process.poll() is not None, "a half"
        )
        kill_group(process)
        process.communicate(timeout=600)
    hold.set()
    assert process.returncode == -signal.SIGKILL
    assert partial_sizes(checkout) == [size // 2]
