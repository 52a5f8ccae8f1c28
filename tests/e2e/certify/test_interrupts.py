"""Certify is interrupted by a kill or from the keyboard: no process is left, verify says PASSED or
that there is no certificate, and the next certify passes.
"""

import os
import pty
import random
import select
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.certify.test_certify_failures import (
    GATE,
    GOOD,
    assert_clean,
    go_on,
    started,
    verdict,
)
from tests.e2e.conftest import LIMIT_S, Checkout, StandIn, kill_group, wait_for

pytestmark = pytest.mark.slow


def passes_or_is_absent(checkout: Checkout) -> bool:
    """Whether the certificate passes. If it does not, there must be none."""
    wait_for(lambda: not checkout.processes(), "processes to die with their parent")
    if not checkout.certificate.exists():
        done = checkout.doit("verify", "--policy", "local")
        assert done.returncode in (2, 3), done.stderr
        return False
    assert verdict(checkout) == (0, [])
    return True


@pytest.mark.parametrize("whole_group", [True, False])
def test_killed_at_any_time_from_nothing(stand_in: StandIn, whole_group: bool) -> None:
    checkout = stand_in("time.sleep(0.3)\n" + GOOD)
    draw = random.Random(7)  # noqa: S311 - times, not secrets
    for _ in range(5):
        with checkout.start("certify") as process:
            try:
                # There is no lower bound: on a slow machine the kill comes early, which is also
                # worth testing.
                process.communicate(timeout=draw.uniform(0.1, 5))
            except subprocess.TimeoutExpired:
                if whole_group:
                    kill_group(process)
                else:
                    process.kill()
                process.wait(LIMIT_S)
        passes_or_is_absent(checkout)
    done = checkout.doit("certify")
    assert done.returncode == 0, done.stderr
    assert passes_or_is_absent(checkout)
    assert_clean(checkout)


def test_killed_in_the_first_moments_after_training(stand_in: StandIn) -> None:
    checkout = stand_in(GATE + GOOD)
    for moment in (0.0, 0.1, 0.3, 0.6, 1.0, 2.0):
        with checkout.start("certify", "--nonce", os.urandom(32).hex(), "tiny-alpaca") as process:
            wait_for(lambda: started(checkout) or process.poll() is not None, "the trainer")
            go_on(checkout)
            try:
                process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                kill_group(process)
                process.communicate(timeout=LIMIT_S)
        passes_or_is_absent(checkout)


def test_killed_while_tracking(stand_in: StandIn, tmp_path: Path) -> None:
    checkout = stand_in(GOOD)
    subprocess.run(["git", "init", "--quiet"], cwd=checkout.root, check=True)
    gate = tmp_path / "tracking"
    dvc = tmp_path / "dvc"
    dvc.write_text(f"#!/bin/sh\ntouch {gate}\nexec sleep {LIMIT_S}\n")
    dvc.chmod(0o755)
    # Outputs are only tracked if there is a remote.
    with (checkout.root / ".dvc" / "config").open("a") as file:
        file.write("[core]\n    remote = team\n['remote \"team\"']\n    url = /nowhere\n")
    held = Checkout(root=checkout.root, environment=checkout.environment | {"AICERT_DVC": str(dvc)})
    with held.start("certify") as process:
        wait_for(lambda: gate.exists() or process.poll() is not None, "DVC")
        assert gate.exists()
        kill_group(process)
        process.communicate(timeout=LIMIT_S)
    assert passes_or_is_absent(checkout)
    dvc.write_text("#!/bin/sh\necho no luck >&2\nexit 1\n")
    done = held.doit("certify")
    assert done.returncode == 0, done.stderr
    assert "no luck" in done.stderr
    assert_clean(checkout)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_ctrl_c_on_a_terminal(stand_in: StandIn, times: int) -> None:
    checkout = stand_in(GATE + GOOD)
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(checkout.root)
        command = [str(checkout.root / "doit"), "certify"]
        os.execve(command[0], command, checkout.environment)  # noqa: S606 - on that terminal
    shown = b""
    left = times
    while select.select([terminal], [], [], 0.05 if left else LIMIT_S)[0] or left:
        if left and started(checkout):
            os.write(terminal, b"\x03")
            left -= 1
            continue
        if not select.select([terminal], [], [], 0)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) in (130, -signal.SIGINT), shown
    assert b"Traceback" not in shown
    assert not passes_or_is_absent(checkout)
    # The cursor is visible again, if it was hidden.
    assert shown.rfind(b"\x1b[?25h") >= shown.rfind(b"\x1b[?25l")
