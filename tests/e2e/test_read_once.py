"""One `certify` reads the model that was made once on the host, however large it is.

Counted in the host's own process, at the system's calls; the machine, its TPM and the placing are
real, the trainer is a stand-in. The machine itself reads the model as well, in another process.
"""

import json
import subprocess
import sys

from tests.e2e.conftest import LIMIT_S, Checkout, StandIn

# Some megabytes that no file system keeps as a hole.
LARGE = """
weights(os.urandom(8 << 20))
(output / "model.safetensors").rename(output / "large.safetensors")
"""
COUNTING = """
import collections, json, os, sys
counts = collections.Counter()

def of_model(name):
    return os.path.basename(os.fsdecode(name)) == "large.safetensors"

def reading(call):
    real = getattr(os, call)
    def stand_in(fd, *arguments):
        found = real(fd, *arguments)
        if of_model(os.readlink(f"/proc/self/fd/{fd}")):
            counts["bytes"] += found if isinstance(found, int) else len(found)
        return found
    setattr(os, call, stand_in)

def opened(event, arguments):
    # Python's own files, whose reads are not seen above; they have a mode.
    if event == "open" and arguments[1] and isinstance(arguments[0], (str, bytes)):
        counts["files"] += of_model(arguments[0])

def counted(module, name, what):
    real = getattr(module, name)
    def stand_in(*arguments, **options):
        counts[what] += 1
        return real(*arguments, **options)
    setattr(module, name, stand_in)

from aicert.appraisal import appraise
from aicert.formats import lockfile
counted(lockfile, "parse", "lockfiles")
counted(appraise, "appraise", "appraisals")
for call in ("read", "readv", "pread", "preadv"):
    reading(call)
sys.addaudithook(opened)
from rules import __main__ as program
code = program.run()
with open(os.environ["COUNTS"], "w") as file:
    json.dump(counts, file)
sys.exit(code)
"""


def certify(checkout: Checkout) -> tuple["subprocess.CompletedProcess[str]", dict[str, int]]:
    """`./doit certify`, and what its own process did."""
    counts = checkout.root / "counts.json"
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, "certify"],
        cwd=checkout.root,
        env=checkout.environment | {"COUNTS": str(counts)},
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
    size = (checkout.model / "large.safetensors").stat().st_size
    assert size > 8 << 20
    # Once, and its header.
    assert size <= counts["bytes"] < size + (1 << 16)
    assert not counts.get("files")
    assert counts["appraisals"] == 1
    assert counts["lockfiles"] <= 2
