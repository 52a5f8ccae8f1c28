"""A run succeeded once its certificate and outputs are in place, even if DVC or an export fails
afterwards."""

import os
import subprocess
from pathlib import Path

import pytest

from rules.dvc import environment
from tests.e2e.conftest import Checkout, StandIn

pytestmark = pytest.mark.slow

GOOD = "weights(b'\\2')\n"
FAILING_DVC = """\
#!/bin/sh
echo "$*" >> "{log}"
[ "$1" = config ] && exit
echo 'ERROR: the disk of the remote is on fire' >&2
exit 255
"""


def in_git(checkout: Checkout) -> Checkout:
    """DVC tracks files only in a git repository."""
    author = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        (*author, "commit", "--quiet", "--message", "a checkout"),
    ):
        subprocess.run(["git", *words], cwd=checkout.root, check=True)
    return checkout


def with_environment(checkout: Checkout, **more: str) -> Checkout:
    return Checkout(root=checkout.root, environment=checkout.environment | more)


def test_a_dvc_that_fails_is_told_and_tried_again(stand_in: StandIn, tmp_path: Path) -> None:
    checkout = in_git(stand_in(GOOD))
    program, log = tmp_path / "dvc", tmp_path / "log"
    program.write_text(FAILING_DVC.format(log=log))
    program.chmod(0o755)
    broken = with_environment(checkout, AICERT_DVC=str(program))
    done = broken.doit("certify")
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout
    assert "warning: run tiny-alpaca is in place, but not tracked by DVC" in done.stderr
    assert "the disk of the remote is on fire" in done.stderr
    assert "./doit certify tiny-alpaca tries again" in done.stderr.splitlines()[-1]
    assert any(line.startswith("commit") for line in log.read_text().splitlines())
    again = broken.doit("certify")
    assert again.returncode == 0, again.stderr
    assert "certify:tiny-alpaca: up to date" in again.stderr
    assert "the disk of the remote is on fire" in again.stderr, "the next call tries it again"
    assert broken.doit("run", "track:tiny-alpaca").returncode == 2, "asked for by name it may fail"
    repaired = with_environment(checkout, AICERT_DVC=str(environment.program())).doit("certify")
    assert repaired.returncode == 0, repaired.stderr
    assert "warning" not in repaired.stderr
    assert checkout.certificate.with_name("model.dvc").is_file()


def test_dvc_is_made_before_the_training_and_may_fail(stand_in: StandIn, tmp_path: Path) -> None:
    checkout = in_git(stand_in("print('the trainer runs')\n" + GOOD))
    (tmp_path / "empty").mkdir()
    offline = with_environment(
        checkout,
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(tmp_path / "empty"),
        PIP_CONFIG_FILE=os.devnull,
    )
    done = offline.doit("certify")
    assert done.returncode == 0, done.stderr
    words = ("warning: the run continues without DVC", "No matching distribution", "in place, but")
    places = [done.stderr.index(word) for word in words]
    assert places == sorted(places)
    assert done.stderr.count("No matching distribution found") == 1, "one attempt a call"
    # The training log is newer than the attempt.
    attempt = next((tmp_path / "cache/envs").glob("dvc-*/pyvenv.cfg")).stat().st_mtime_ns
    assert attempt < checkout.certificate.with_name("training.log").stat().st_mtime_ns


def test_an_export_that_cannot_be_written_is_told(stand_in: StandIn) -> None:
    checkout = stand_in(GOOD)
    # A folder in place of the file cannot be replaced, not even by root.
    blocked = checkout.certificate.with_name("bom.cdx.json")
    (blocked / "sub").mkdir(parents=True)
    done = checkout.doit("certify")
    assert done.returncode == 0, done.stderr
    assert "in place, but not exported" in done.stderr
    assert "its exports are not written yet" in done.stderr.splitlines()[-1]
    (blocked / "sub").rmdir()
    blocked.rmdir()
    again = checkout.doit("certify")
    assert (again.returncode, "warning" in again.stderr) == (0, False), again.stderr
    assert blocked.is_file()
