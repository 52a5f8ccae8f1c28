"""One `certify` reads the new model exactly once on the host, however large it is.

The system calls of the host's own process are counted (rules.bench.reads). The machine, its TPM and
the placing are real; the trainer is a stand-in.
"""

import json
import subprocess
import sys

from tests.e2e.conftest import LIMIT_S, Checkout, StandIn

# Eight megabytes that no file system can store as a hole.
LARGE = "weights(os.urandom(8 << 20))\n"


def certify(checkout: Checkout) -> tuple["subprocess.CompletedProcess[str]", dict[str, int]]:
    """Run `./doit certify`. Returns how it ended, and the counts of its own process."""
    counts = checkout.root / "counts.json"
    done = subprocess.run(
        [sys.executable, "-m", "rules.bench.reads", counts, "certify"],
        cwd=checkout.root,
        env=checkout.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    return done, json.loads(counts.read_text())


def test_the_host_reads_the_model_and_appraises_once(stand_in: StandIn) -> None:
    checkout = stand_in(LARGE)
    done, counts = certify(checkout)
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout
    size = (checkout.model / "model.safetensors").stat().st_size
    assert size > 8 << 20
    # The model is read once, and its weights' header a second time. Nothing is read through
    # Python's own files, whose bytes are not counted.
    assert size <= counts["bytes"] < size + (1 << 16)
    assert counts["files"] == 0
    assert counts["appraisals"] == 1
    assert counts["lockfiles"] <= 2
