"""A project names a time authority: both time stamps of a run, and a verifier's verdict.

The authority is `openssl ts` behind HTTP; the trainer is a stand-in.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import time_authority
from tests.adversarial import ca_forge
from tests.e2e.conftest import Checkout, StandIn
from tests.time_authority import TimeAuthority
from tests.unit.aicert.log.logs import ORIGIN, Bench
from tests.unit.servers import Reply, Request, Site, site
from tests.witness_server import WitnessServer

pytestmark = pytest.mark.slow

GOOD = "weights(b'\\2')\n"
CHALLENGE = bytes(range(32)).hex()
# By then the certificate of every simulated platform has expired; the authority's root has not.
LATER = "2095-01-01T00:00:00Z"


@pytest.fixture
def authority(tmp_path: Path) -> TimeAuthority:
    folder = tmp_path / "authority"
    folder.mkdir()
    return time_authority.set_up(folder)


@pytest.fixture
def running(authority: TimeAuthority) -> Iterator[Site]:
    def answer(request: Request) -> Reply:
        return Reply(body=authority.reply(request.body))

    with site(answer) as server:
        yield server


def with_authority(checkout: Checkout, url: str) -> Checkout:
    with (checkout.root / "aicert.toml").open("a") as file:
        file.write(f'\n[time-authority]\nurl = "{url}"\n')
    return checkout


def verified(checkout: Checkout, folder: Path, *words: str, more: str = "") -> dict[str, Any]:
    """Return verdict and checks for a person whose policy names the authority."""
    root = ca_forge.hash_of(folder_root(folder))
    policy = folder / "policy.toml"
    policy.write_text(
        f'extends = "local"\n{more}[[time-authority]]\nname = "openssl"\n'
        f'certificate = "root.pem"\nsha256 = "{root}"\n'
    )
    command = [sys.executable, "-m", "aicert", "verify", str(checkout.certificate)]
    command += [str(checkout.model), "--policy", str(policy), "--format", "json", *words]
    command.append(f"--root={checkout.root}/.aicert/ca/local.pem")
    done = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return {"verdict": document["verdict"]} | {
        check["id"]: check["verdict"] for check in document["checks"]
    }


def folder_root(folder: Path) -> bytes:
    from aicert.trust.roots import pem_to_der

    return pem_to_der((folder / "root.pem").read_bytes(), "root")


def test_a_run_lies_between_two_time_stamps(
    stand_in: StandIn, authority: TimeAuthority, running: Site
) -> None:
    checkout, folder = with_authority(stand_in(GOOD), running.url), authority.folder
    done = checkout.doit("certify", "tiny-alpaca", "--nonce", CHALLENGE)
    assert done.returncode == 0, done.stderr
    assert "tiny-alpaca: begins after 2" in done.stderr
    assert "tiny-alpaca: stamped 2" in done.stderr
    assert len(running.requests) == 2
    again = checkout.doit("certify", "tiny-alpaca", "--nonce", CHALLENGE)
    assert again.returncode == 0, again.stderr
    assert len(running.requests) == 2, "it answers the challenge, by way of the time stamp"

    strict = 'require = ["time"]\nmax-age-days = 1\n'
    young = verified(checkout, folder, more=strict)
    assert young["verdict"] == "passed", young
    assert [young[f"time.{name}"] for name in ("token", "not-before")] == ["ok", "ok"]
    assert young["policy.age"] == "ok"
    assert verified(checkout, folder, "--nonce", CHALLENGE, more=strict)["verdict"] == "passed"
    assert verified(checkout, folder, "--nonce", "11" * 32)["quote.nonce"] == "failed"
    # There are two ways to ask whether a certificate that is read much later is good.
    assert verified(checkout, folder, "--at", LATER)["verdict"] == "passed"
    bare = json.loads(checkout.certificate.read_bytes())
    bare["evidence"]["timestamps"] = bare["evidence"]["timestamps"][:1]
    checkout.certificate.write_text(json.dumps(bare))
    refused = verified(checkout, folder, "--at", LATER)
    assert (refused["verdict"], refused["platform.chain"]) == ("failed", "failed")


def test_no_run_begins_without_an_answer_and_none_that_ended_is_lost(
    stand_in: StandIn, authority: TimeAuthority
) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        # The authority fails when the run has finished, before another one begins.
        if len(asked) in (2, 4):
            return Reply(status=503)
        return Reply(body=authority.reply(request.body))

    with site(answer) as server:
        checkout, folder = with_authority(stand_in(GOOD), server.url), authority.folder
        done = checkout.doit("certify")
        assert done.returncode == 0, done.stderr
        assert "warning: run tiny-alpaca has no time stamp" in done.stderr
        hint = f"aicert timestamp certificates/tiny-alpaca/certificate.json --tsa {server.url}"
        assert hint in done.stderr
        assert verified(checkout, folder, more='require = ["time"]\n')["verdict"] == "none"
        added = subprocess.run(
            [sys.executable, "-m", *hint.split()], cwd=checkout.root, env=os.environ,
            capture_output=True, text=True,
        )  # fmt: skip
        assert added.returncode == 0, added.stderr
        assert verified(checkout, folder, more='require = ["time"]\n')["verdict"] == "passed"
        kept = checkout.doit("certify")
        assert kept.returncode == 0, kept.stderr
        assert "nothing to do" in kept.stderr, "a time stamp that was added later changes nothing"
        stopped = checkout.doit("certify", "tiny-alpaca", "--again")
        assert stopped.returncode == 2
        assert "run tiny-alpaca was not started: the time authority" in stopped.stderr
        assert "answers 503" in stopped.stderr


def with_log(checkout: Checkout, bench: Bench, running: Site, server: WitnessServer) -> None:
    """Name the log and its witness, and have the example's run logged."""
    path = checkout.root / "aicert.toml"
    text = path.read_text().replace("[runs.tiny-alpaca]\n", "[runs.tiny-alpaca]\nlog = true\n")
    path.write_text(
        f'{text}\n[log]\nfolder = "{bench.folder}"\n[[log.witnesses]]\n'
        f'url = "{running.url}"\nkey = "{server.key}"\n'
    )


def test_a_run_is_logged_between_two_checkpoints(stand_in: StandIn, tmp_path: Path) -> None:
    checkout, bench = stand_in(GOOD), Bench(tmp_path)
    bench.grow(3)
    server = WitnessServer({ORIGIN: str(bench.key)}, now=int(time.time()) - 60)
    with site(server.answer) as running:
        with_log(checkout, bench, running, server)
        done = checkout.doit("certify", "tiny-alpaca", "--nonce", CHALLENGE)
        assert done.returncode == 0, done.stderr
        assert "tiny-alpaca: begins after 2" in done.stderr
        assert f"tiny-alpaca: logged, entry 3 of {ORIGIN}, cosigned by {server.name}" in done.stderr
        asked = len(running.requests)
        again = checkout.doit("certify", "tiny-alpaca", "--nonce", CHALLENGE)
        assert again.returncode == 0, again.stderr
        assert len(running.requests) == asked, "it answers the challenge, by way of the checkpoint"
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'extends = "local"\nrequire = ["log"]\nmax-age-days = 1\n'
        f'[[log]]\nname = "models"\nkey = "{bench.key}"\n'
        f'[[witness]]\nname = "first"\nkey = "{server.key}"\n'
    )
    for words in ([], ["--nonce", CHALLENGE]):
        command = [sys.executable, "-m", "aicert", "verify", str(checkout.certificate)]
        command += [str(checkout.model), "--policy", str(policy), "--format", "json", *words]
        command.append(f"--root={checkout.root}/.aicert/ca/local.pem")
        shown = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True)
        document: Any = json.loads(shown.stdout)
        checks = {check["id"]: check["verdict"] for check in document["checks"]}
        assert document["verdict"] == "passed", document
        for name in ("log.included", "log.witnessed", "time.not-before", "policy.age"):
            assert checks[name] == "ok", name


def test_a_witness_that_saw_another_log_ends_it_with_1_and_the_run_in_place(
    stand_in: StandIn, tmp_path: Path
) -> None:
    checkout, bench = stand_in(GOOD), Bench(tmp_path)
    bench.grow(3)
    server = WitnessServer({ORIGIN: str(bench.key)}, now=int(time.time()) - 60)

    def answer(request: Request) -> Reply:
        # During the run, somebody shows the witness another log of four entries.
        is_after = request.body.decode().partition("\n\n")[2].splitlines()[1] == "4"
        return Reply(status=422) if is_after else server.answer(request)

    with site(answer) as running:
        with_log(checkout, bench, running, server)
        done = checkout.doit("certify", "tiny-alpaca")
        assert done.returncode == 1, done.stderr
        assert "error: run tiny-alpaca is logged, but the log is not in order\n" in done.stderr
        assert f"{server.name} says that the 4 entries here do not go on" in done.stderr
        assert "run tiny-alpaca passed and is in place, but its log" in done.stderr
        assert "hint: aicert log check FOLDER --against" in done.stderr
        assert "PASSED" in done.stdout
    # The certificate is as good as another, so what is left is done the next time.
    again = checkout.doit("certify", "tiny-alpaca")
    assert again.returncode == 0, again.stderr
    assert checkout.doit("verify", "tiny-alpaca", "--policy", "local").returncode == 0
