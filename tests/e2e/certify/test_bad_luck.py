"""Closed streams, broken caches, odd places and read-only disks end with a message and the right
exit code.

A command never prints a traceback, and never exits with 1, which is a verdict. A stand-in for the
trainer certifies the checkout once; each test then adds one piece of bad luck.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import LIMIT_S, Checkout

GOOD = "weights()\n"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certified(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout with a certificate that passes; tests restore what they change."""
    from tests.e2e import conftest

    folder = tmp_path_factory.mktemp("certified")
    plain = conftest.checkout.__wrapped__(folder)  # type: ignore[attr-defined]  # pytest keeps it
    checkout: Checkout = conftest.stand_in.__wrapped__(plain, folder)(GOOD)  # type: ignore[attr-defined]
    done = checkout.doit("certify")
    assert done.returncode == 0, done.stderr
    return checkout


def sh(
    checkout: Checkout, script: str, *, mounts: bool = False, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run `script` in the checkout; with `mounts`, in a mount namespace of its own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    words = ["unshare", *user, "--mount"] if mounts else []
    return subprocess.run(
        [*words, "sh", "-c", script],
        cwd=checkout.root,
        env=checkout.environment | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=LIMIT_S,
    )


AICERT = (
    ".venv/bin/python -m aicert verify certificates/tiny-alpaca/certificate.json "
    "outputs/tiny-alpaca/model --policy local --root .aicert/ca/local.pem"
)


@pytest.mark.parametrize("command", ["./doit verify --policy local", AICERT])
@pytest.mark.parametrize(
    ("streams", "code", "words"),
    [
        (">&-", 2, "cannot write the result"),
        (">/dev/full", 2, "cannot write the result"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("<&-", 0, ""),
        (">&- 2>&-", 2, ""),
        ("<&- >&- 2>&-", 2, ""),
    ],
)
def test_closed_streams(
    certified: Checkout, command: str, streams: str, code: int, words: str
) -> None:
    done = sh(certified, f"{command} {streams}")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "harm",
    [
        "echo garbage > .aicert/doit.db",
        "truncate -s 100 .aicert/doit.db",
        ": > .aicert/doit.db",
        "rm -f .aicert/doit.db; mkdir .aicert/doit.db",
        "rm -f .aicert/doit.db",
        "chmod 0 .aicert/doit.db",
        "echo garbage > .aicert/digests.sqlite",
        "truncate -s 3000 .aicert/digests.sqlite",
        "rm -f .aicert/digests.sqlite; mkdir .aicert/digests.sqlite",
    ],
)
def test_a_broken_cache_costs_a_second_look(certified: Checkout, harm: str) -> None:
    try:
        done = sh(certified, f"{harm}; ./doit certify tiny-alpaca")
        assert done.returncode == 0, done.stderr
        assert "nothing to do" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        sh(certified, "rm -rf .aicert/doit.db .aicert/digests.sqlite")


def test_a_locked_database_costs_a_second_look(certified: Checkout) -> None:
    hold = (
        'python3 -c \'import sqlite3, sys; c = sqlite3.connect(".aicert/doit.db"); '
        'c.execute("begin exclusive"); print(1, flush=True); sys.stdin.read()\''
    )
    with subprocess.Popen(
        ["sh", "-c", f"exec {hold}"],
        cwd=certified.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = certified.doit("certify", "tiny-alpaca")
        holder.communicate()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkout_that_cannot_be_written_to(certified: Checkout) -> None:
    read_only = f"mount --bind {certified.root} {certified.root}; cd {certified.root}"
    read_only += f"; mount -o remount,bind,ro {certified.root}"
    verified = sh(certified, f"{read_only}; ./doit verify --policy local", mounts=True)
    assert verified.returncode == 0, verified.stderr
    refused = sh(
        certified, f"{read_only}; ./doit certify tiny-alpaca --nonce {'ab' * 32}", mounts=True
    )
    assert refused.returncode == 2, refused.stderr
    assert "read-only file system" in refused.stderr.lower()
    assert "Traceback" not in refused.stderr


def test_a_cache_that_is_a_file(certified: Checkout) -> None:
    done = sh(certified, "echo mine > cache; ./doit certify tiny-alpaca --nonce " + "cd" * 32,
              AICERT_CACHE=str(certified.root / "cache"))  # fmt: skip
    assert done.returncode in (2, 3), done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert (certified.root / "cache").read_text() == "mine\n"
    (certified.root / "cache").unlink()


@pytest.mark.parametrize("name", ["a:b", "caf\udce9", "with space", "-dash", "new\nline"])
def test_an_odd_path_of_the_checkout(certified: Checkout, tmp_path: Path, name: str) -> None:
    odd = tmp_path / name
    shutil.copytree(certified.root, odd, symlinks=True)
    moved = Checkout(root=odd, environment=certified.environment)
    verified = moved.doit("verify", "--policy", "local")
    assert verified.returncode == 0, verified.stderr
    done = subprocess.run(
        [odd / "doit", "certify", "tiny-alpaca", "--nonce", "ef" * 32],
        cwd=odd,
        env=moved.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
    )
    assert b"Traceback" not in done.stderr
    # If a program that is not ours refuses such a path, the error says so.
    assert done.returncode in (0, 2, 3), done.stderr
    assert done.returncode == 0 or b"error: " in done.stderr


def test_without_git(certified: Checkout, tmp_path: Path) -> None:
    """Certifying and verifying work without git; commands that need it say so."""
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*") if Path(folder).is_dir() else ():
            link = tmp_path / program.name
            if program.name != "git" and not link.is_symlink():
                link.symlink_to(program)
    done = sh(certified, "./doit certify tiny-alpaca", PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    review = sh(certified, "./doit review", PATH=str(tmp_path))
    assert review.returncode in (2, 3), review.stderr
    assert "git" in review.stderr
    assert "Traceback" not in review.stderr


REFUSING = Path(__file__).resolve().parents[2] / "refusing.py"


def on_a_poorer_disk(
    checkout: Checkout, error: str, calls: str, command: str
) -> "subprocess.CompletedProcess[str]":
    return sh(checkout, f"{shlex.quote(sys.executable)} {REFUSING} {error} {calls} {command}")


@pytest.mark.parametrize("command", ["certify", "verify --policy local", "lock"])
def test_a_file_system_without_symbolic_links(certified: Checkout, command: str) -> None:
    """A checkout that is already set up does not need symbolic links."""
    done = on_a_poorer_disk(certified, "EPERM", "symlink,symlinkat", f"./doit {command}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["certify", "certify --again", "clean --yes"])
def test_a_file_system_without_locks(certified: Checkout, command: str) -> None:
    done = on_a_poorer_disk(certified, "ENOLCK", "flock", f"./doit {command}")
    assert done.returncode == 2, done.stderr
    assert "no locks available" in done.stderr
    assert "use a checkout on a local disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert certified.certificate.exists()
