"""The whole path from the command line: build, boot, audit, train, certify, verify, reproduce; and
what is certified about the same data and a model, joined.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.appraisal.result import BOOT_CHECKS
from aicert.formats.digest import of_bytes
from rules.image import build
from rules.image.build import Place
from tests.e2e.conftest import Checkout, wait_for
from tests.e2e.training import test_gate
from tests.machine.conftest import Built, name_audit, note_boot

pytestmark = [pytest.mark.slow, pytest.mark.machine]
RUN = "tiny-alpaca-measured"
OTHERS = ("tiny-audit", "tiny-eval")
# A run takes eight minutes of CPU time under emulation, almost all for imports. This only bounds
# something that hangs, on a machine that has other work too.
RUN_S = 2 * 3600
# An emulated step of the shipped run takes seconds; fewer and smaller steps take the same path.
SHORTER = (
    ("\nmax_steps: 40\n", "\nmax_steps: 2\n"),
    ("\nmicro_batch_size: 8\n", "\nmicro_batch_size: 2\n"),
)
POLICY = test_gate.POLICY.replace('"local"', '"qemu"')


def shortened(checkout: Checkout) -> None:
    """Shorten the shipped run to a few small steps, put the shipped audit before it, and lock it
    again as its owner would.
    """
    name_audit(checkout.root)
    config = checkout.root / "examples" / "tiny-alpaca.yml"
    text = config.read_text()
    for old, new in SHORTER:
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    # The shipped audit and evaluation are for the other machine.
    toml = checkout.root / "aicert.toml"
    text, number = re.subn(r'"local" +# or "measured"', '"measured"', toml.read_text())
    assert number == len(OTHERS)
    toml.write_text(text)
    locked = checkout.doit("lock", RUN)
    assert locked.returncode == 0, locked.stderr


def interrupted(checkout: Checkout) -> None:
    """Kill certify while its machine boots: nothing may be left over or disturb the next one."""
    with checkout.start("certify", RUN) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "booting the measured machine" in line:
                break
        # Kill the process alone, not its group: its children have to end with it.
        process.kill()
        process.communicate()

    def left() -> list[str]:
        return [line for line in checkout.processes() if "swtpm" in line or "qemu" in line]

    wait_for(lambda: not left(), "machine and TPM to end with certify")


@pytest.mark.whole
def test_certify_and_verify_and_reproduce(built: Built, request: pytest.FixtureRequest) -> None:
    checkout = built.checkout
    shortened(checkout)
    interrupted(checkout)
    first = checkout.doit("certify", RUN, limit=RUN_S)
    assert first.returncode == 0, first.stderr
    assert "PASSED    (measured-vm: the operator could have forged this)" in first.stdout
    assert "what PCRs 1, 5, 6, 9, 10, 15 hold: they are quoted but not compared" in first.stdout
    note_boot("tcg" if "(emulated" in first.stderr else "kvm", request.node.name)

    again = checkout.doit("certify", RUN)
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True), again.stderr

    own = checkout.doit("verify", RUN, "--policy", "qemu", "--format", "json")
    assert own.returncode == 0, own.stderr
    result = json.loads(own.stdout)
    assert (result["verdict"], result["tier"]) == ("passed", "measured-vm")
    checks = {check["id"]: check["verdict"] for check in result["checks"]}
    assert {name: checks[name] for name in BOOT_CHECKS} == dict.fromkeys(BOOT_CHECKS, "ok")
    assert checkout.doit("verify", RUN).returncode == 1

    outside = checkout.doit("reproduce", RUN, "--machine", "local")
    assert outside.returncode == 0, outside.stdout + outside.stderr
    assert re.search(r"^PCR 14 .*, the same$", outside.stdout, re.MULTILINE)
    assert re.search(r"^REPRODUCED  \d+ files, byte for byte$", outside.stdout, re.MULTILINE)
    # That created the other machine's CA, which vouches for nothing here.
    assert checkout.doit("verify", RUN, "--policy", "local").returncode == 1

    joined(checkout, request.node.name)


def joined(checkout: Checkout, test: str) -> None:
    """The shipped audit and evaluation are certified too, and count for what they are about."""
    for name, what in zip(OTHERS, ("an audit", "an evaluation"), strict=True):
        certified = checkout.doit("certify", name, limit=RUN_S)
        assert certified.returncode == 0, certified.stderr
        assert f"PASSED    results of {what}, not a model (measured-vm" in certified.stdout
        note_boot("tcg" if "(emulated" in certified.stderr else "kvm", test)
    held_out = (checkout.root / "examples/held-out.jsonl").read_bytes()
    policy = checkout.root / "ours.toml"
    for listed, code in ((of_bytes(held_out).hex, 0), ("ab" * 32, 1)):
        policy.write_text(POLICY.replace("LIST", listed))
        judged = verified(checkout, policy)
        assert judged.returncode == code, judged.stdout + judged.stderr
    assert "was audited for passages/v1 with another list" in judged.stdout
    judged = verified(checkout, "qemu")
    for run in (RUN, "tiny-audit"):
        assert f"audited alpaca train of run {RUN} by run {run}, tier measured-vm" in judged.stdout
    # It is of the model that the training began with.
    assert "run tiny-eval evaluated another model" in judged.stdout


def verified(checkout: Checkout, policy: str | Path) -> "subprocess.CompletedProcess[str]":
    certificates = checkout.root / "certificates"
    return subprocess.run(
        [
            sys.executable, "-m", "aicert", "verify", certificates / RUN / "certificate.json",
            checkout.root / "outputs" / RUN / "model", f"--policy={policy}",
            "--root", certificates / RUN / "ca.pem", "--image=lockfiles/image.lock.toml",
            "--evidence", certificates,
        ],
        cwd=checkout.root, env=checkout.environment, capture_output=True, text=True,
    )  # fmt: skip


def test_the_runners_layer_is_the_same_bytes_each_time(built: Built) -> None:
    """Build the layer twice more from the same trees, in another place and with another umask."""
    where = build.place(built.checkout.root)
    lock = build.read_lock(where.root)
    assert lock is not None
    for umask in (0o077, 0o002):
        before = os.umask(umask)
        try:
            with tempfile.TemporaryDirectory(dir=where.cache, prefix="reproduce-") as name:
                again = _again(where, Path(name), built)
                assert again == built.image.lock
        finally:
            os.umask(before)


def _again(where: Place, folder: Path, built: Built) -> bytes:
    root = folder / "checkout"
    root.mkdir(mode=0o755)
    for name in ("aicert", "enclave_runner", "image", "rules", "lockfiles"):
        # git would write the files like this for that user.
        subprocess.run(["cp", "-r", "--no-preserve=mode", where.root / name, root], check=True)
    lock = build.read_lock(root)
    assert lock is not None
    machine = build._machine_tree(where, built.image.tools, built.packages())
    training, _ = build._training_volume(where, built.image.tools, machine)
    for layer in (where.cache / "store", built.image.tools, machine, training.parent):
        (folder / layer.name).symlink_to(layer)
    # The packages that replace the missing tools are known already.
    for others in where.cache.glob("others-*.json"):
        (folder / others.name).symlink_to(others)
    place = replace(where, root=root, cache=folder)
    return build.build(place, lock.packages, snapshot=lock.snapshot).lock
