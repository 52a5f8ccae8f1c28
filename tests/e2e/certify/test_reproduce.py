"""`./doit reproduce` keeps a certificate of equal bytes, and says what it is worth. The verdict
contains what was counted in a trainer's process, and the time that a trainer slept.

The machine, its TPM and the sandbox are real; the trainer is a stand-in.
"""

import hashlib
import json
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.conftest import LIMIT_S, Checkout, StandIn

COUNTED = "weights()\ntell(counted={'process': 0, 'steps': 3, 'rows': 640, 'of': 256})\n"
# The trainer's output is different in each run.
RANDOM = "weights()\n(output / 'notes.txt').write_bytes(os.urandom(8).hex().encode())\n"
ASLEEP_S = 1.5
ASLEEP = f"time.sleep({ASLEEP_S})\nweights()\n"
CERTIFICATE = Path("reproductions/tiny-alpaca/local/certificate.json")
ONE_OWNER = "one owner could have made both: root simulated:local stands for its operator"
NO_IMAGE = "not both machines measured the image that they ran"


def aicert(checkout: Checkout, *words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "aicert", *map(str, words)],
        cwd=checkout.root,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def verify(checkout: Checkout, *words: object) -> "subprocess.CompletedProcess[str]":
    ca = checkout.root / ".aicert/ca/local.pem"
    own = ("--policy", "local", "--root", ca)
    return aicert(checkout, "verify", checkout.certificate, checkout.model, *own, *words)


def verdict(checkout: Checkout, *words: object) -> Any:
    done = verify(checkout, "--format", "json", *words)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def root_of(ca: Path) -> str:
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca.read_text())).hexdigest()
    name = f'name = "{digest[:8]}"\ntier = "software"\nak-purpose = "required"\n'
    return f'[[root]]\n{name}certificate = "{ca}"\nsha256 = "{digest}"\n'


def test_a_second_run_of_equal_bytes_leaves_its_certificate(stand_in: StandIn) -> None:
    checkout = stand_in(COUNTED)
    assert checkout.doit("certify").returncode == 0
    before = checkout.certificate.read_bytes()
    again = checkout.doit("reproduce", "tiny-alpaca")
    assert again.returncode == 0, again.stderr
    assert "REPRODUCED  1 files, byte for byte" in again.stdout
    assert again.stdout.endswith(
        f"certificate  {CERTIFICATE}\n"
        "This only shows that the training is deterministic: "
        f"{ONE_OWNER}; {NO_IMAGE}.\n"
    )
    assert checkout.certificate.read_bytes() == before
    assert (checkout.root / CERTIFICATE).with_name("ca.pem").is_file()

    evidence = ("--evidence", checkout.root / "reproductions/tiny-alpaca")
    shown = verify(checkout, *evidence)
    assert shown.returncode == 0, shown.stderr
    assert "  repeated with equal bytes by local: run tiny-alpaca, tier software" in shown.stdout
    assert verify(checkout, *evidence, "--re-executed").returncode == 2
    # The stand-in counts as the plugin does.
    counts = {"epochs": 2.5, "rows": 640, "of": 256, "steps": 3}
    assert verdict(checkout)["epochs"] == {"inTrainer": counts, "selfReported": None}
    assert "epochs    at least 2.5 of 256 rows, in 3 steps (in-trainer)" in shown.stdout


def test_a_second_run_of_other_bytes_leaves_nothing(stand_in: StandIn) -> None:
    checkout = stand_in(RANDOM)
    assert checkout.doit("certify").returncode == 0
    again = checkout.doit("reproduce", "tiny-alpaca")
    assert again.returncode == 1
    assert "NOT REPRODUCED  1 of 2 files differ" in again.stdout
    assert not (checkout.root / "reproductions").exists()


def test_a_second_run_that_fails_shows_the_trainers_last_error(stand_in: StandIn) -> None:
    """Its results are thrown away, but not its log."""
    checkout = stand_in(COUNTED)
    assert checkout.doit("certify").returncode == 0
    before = checkout.certificate.read_bytes()
    stand_in_fails = "print('a line')\nraise RuntimeError('no such luck')\n"
    (trainer,) = Path(checkout.environment["AICERT_CACHE"]).glob(
        "envs/*/lib/*/*/axolotl/cli/main.py"
    )
    trainer.write_text(stand_in_fails)
    again = checkout.doit("reproduce", "tiny-alpaca")
    assert again.returncode == 1
    assert "error: the repeated run failed: outputs.exit: the run failed: it ended with 1\n" in (
        again.stderr
    )
    assert again.stderr.endswith(
        "RuntimeError: no such luck\nhint: less .aicert/failed/tiny-alpaca.log\n"
    )
    assert "a line\n" in (checkout.root / ".aicert/failed/tiny-alpaca.log").read_text()
    assert checkout.certificate.read_bytes() == before
    assert not (checkout.root / "reproductions").exists()


def test_another_operator_reproduces_in_a_checkout_of_his_own(
    stand_in: StandIn, tmp_path: Path
) -> None:
    checkout = stand_in(COUNTED)
    assert checkout.doit("certify").returncode == 0
    theirs = Checkout(root=tmp_path / "theirs", environment=checkout.environment)
    shutil.copytree(checkout.root, theirs.root, symlinks=True)
    shutil.rmtree(theirs.root / ".aicert/ca")
    # Nobody has told them the fingerprint of the first checkout's CA.
    assert theirs.doit("reproduce", "tiny-alpaca").returncode == 2
    (fingerprint,) = (
        line.split()[1]
        for line in checkout.doit("trust").stdout.splitlines()
        if line.startswith("own")
    )
    assert theirs.doit("trust", fingerprint).returncode == 0
    again = theirs.doit("reproduce", "tiny-alpaca")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.endswith(f"training is deterministic: {NO_IMAGE}.\n")
    policy = theirs.root / "both.toml"
    cas = [checkout.root / ".aicert/ca/local.pem", (theirs.root / CERTIFICATE).parent / "ca.pem"]
    policy.write_text('name = "both"\nextends = "local"\n' + "".join(map(root_of, cas)))
    evidence = ("--evidence", theirs.root / "reproductions/tiny-alpaca", "--format", "json")
    done = aicert(theirs, "verify", theirs.certificate, theirs.model, "--policy", policy, *evidence)
    assert done.returncode == 0, done.stdout + done.stderr
    (one,) = json.loads(done.stdout)["evidence"]["reproductions"]
    assert (one["grade"], one["lacks"]) == ("repeated", [NO_IMAGE])
    assert not one["mayBeOneOperator"]


def test_what_a_trainer_sleeps_counts_by_the_tpms_clock(stand_in: StandIn, tmp_path: Path) -> None:
    checkout = stand_in(ASLEEP)
    certified = checkout.doit("certify")
    assert certified.returncode == 0, certified.stderr
    result = verdict(checkout)
    assert result["attestedSeconds"] >= ASLEEP_S
    compute = result["compute"]
    least = ASLEEP_S * 1.2 * compute["processors"] * 1e13
    assert compute["ceiling"] >= least
    # The run computed next to nothing, but nothing proves that.
    policy = tmp_path / "bounded.toml"
    policy.write_text(f'name = "b"\nextends = "local"\n[compute]\nat-most = {least * 0.99!r}\n')
    ca = checkout.root / ".aicert/ca/local.pem"
    words = ("--policy", policy, "--root", ca, "--format", "json")
    done = aicert(checkout, "verify", checkout.certificate, checkout.model, *words)
    failed = [one["id"] for one in json.loads(done.stdout)["checks"] if one["verdict"] == "failed"]
    assert (done.returncode, failed) == (1, ["policy.compute"])
