"""The README's commands on machines that nobody has touched: `env -i`, an empty HOME, no caches.

By interpreter and by user, as far as the machine at hand allows: Debian's `python3`, another 3.11,
root and (as root) an ordinary user; and Python 3.13 alone, as Debian 13 has it. Needs the package
registry and some ten minutes, so it is asked for by its marker:

    ./doit test -m matrix tests/matrix

The training environment is made once and shared: of the system's Python, which everybody may run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rules.host import training_env

pytestmark = pytest.mark.matrix

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "65534"
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Says nothing of what was installed: only where packages come from.
KEPT = ("PIP_CONFIG_FILE", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT",
        "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
        "https_proxy", "http_proxy", "no_proxy")  # fmt: skip


def other_python() -> Path | None:
    """A CPython 3.11 on PATH that the system did not install."""
    for folder in os.environ["PATH"].split(os.pathsep):
        candidate = Path(folder, "python3.11")
        if not os.access(candidate, os.X_OK):
            continue
        code = "import os, sys; print(os.path.realpath(sys.executable), sys.version_info[:2])"
        asked = subprocess.run([candidate, "-I", "-c", code], capture_output=True, text=True)
        path, _, version = asked.stdout.strip().partition(" ")
        if version == "(3, 11)" and Path(path).parent != Path("/usr/bin"):
            return Path(path)
    return None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A fresh clone with a HOME of its own."""

    root: Path
    home: Path
    path: str
    user: str | None = None

    def doit(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        words = [str(self.root / "doit"), *arguments]
        if self.user:
            who = [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
            words = ["setpriv", *who, *words]
        started = time.monotonic()
        done = subprocess.run(
            words,
            cwd=self.root,
            env={"HOME": str(self.home), "PATH": self.path, "AICERT_INSTALL": "no", **kept()},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        print(f"{time.monotonic() - started:.0f} s  ./doit {' '.join(arguments)}", file=sys.stderr)
        return done


def kept() -> dict[str, str]:
    """pip's own configuration, also where it lies in the HOME that is taken away."""
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    own = Path.home() / ".config/pip/pip.conf"
    if own.is_file():
        # An ordinary user cannot read root's.
        copy = Path(tempfile.gettempdir(), f"aicert-matrix-pip-{os.getuid()}.conf")
        shutil.copyfile(own, copy)
        found.setdefault("PIP_CONFIG_FILE", str(copy))
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where everybody may look, unlike pytest's own."""
    place = Path(tempfile.mkdtemp(prefix="aicert-matrix-", dir="/var/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def fresh(folder: Path, name: str, path: str, user: str | None = None) -> Machine:
    root, home = folder / name / "a clone", folder / name / "home"
    home.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, root], check=True)
    shared = folder / training_env.location(ROOT).name
    (root / ".aicert/envs").mkdir(parents=True)
    if shared.exists():
        (root / ".aicert/envs" / shared.name).symlink_to(shared)
    if user:
        subprocess.run(["chown", "--recursive", "-h", f"{user}:{user}", folder / name], check=True)
    return Machine(root=root, home=home, path=path, user=user)


def certifies(machine: Machine, folder: Path) -> None:
    done = machine.doit("certify")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "PASSED" in done.stdout
    assert "warning" not in done.stderr
    tested = machine.doit("test", "tests/unit/test_layering.py")
    assert tested.returncode == 0, tested.stderr[-4000:] + tested.stdout[-4000:]
    again = machine.doit("certify")
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True), again.stderr
    made = machine.root / ".aicert/envs" / training_env.location(ROOT).name
    if not made.is_symlink():
        # Its own place stays the one that its scripts name.
        (folder / made.name).symlink_to(made)


def test_the_systems_python(folder: Path) -> None:
    certifies(fresh(folder, "system", SYSTEM), folder)


def test_an_ordinary_user(folder: Path) -> None:
    # Who is none runs all of this as one.
    assert os.geteuid() == 0, "run as root: an ordinary user is made from it"
    certifies(fresh(folder, "user", SYSTEM, NOBODY), folder)


def test_root_with_another_python(folder: Path) -> None:
    python = other_python()
    assert python is not None, "PATH has no CPython 3.11 but the system's: nothing to compare with"
    certifies(fresh(folder, "other", f"{python.parent}:{SYSTEM}"), folder)


def test_python_3_13_alone_gets_a_hint(folder: Path) -> None:
    """As on Debian 13: everything of the system but Python 3.11."""
    programs = folder / "bin"
    programs.mkdir()
    for entry in (*Path("/usr/sbin").iterdir(), *Path("/usr/bin").iterdir()):
        if not entry.name.startswith("python") and not (programs / entry.name).exists():
            (programs / entry.name).symlink_to(entry)
    python = newest_python()
    for name in ("python3", "python3.13"):
        (programs / name).symlink_to(python)
    machine = fresh(folder, "newer", str(programs))
    (machine.root / ".aicert/envs" / training_env.location(ROOT).name).unlink(missing_ok=True)
    done = machine.doit("certify")
    assert done.returncode == 2, done.stderr[-4000:]
    assert "training needs CPython 3.11" in done.stderr
    hint = done.stderr.rpartition("hint: ")[2]
    assert "3.11" in hint
    assert "warning" not in done.stderr, "DVC does without 3.11"


def newest_python() -> Path:
    code = "import os, sys; print(os.path.realpath(sys.executable))"
    candidates = [Path(folder, "python3.13") for folder in os.environ["PATH"].split(os.pathsep)]
    candidates += Path.home().glob(".pyenv/versions/3.13*/bin/python3.13")
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            asked = subprocess.run([candidate, "-I", "-c", code], capture_output=True, text=True)
            if asked.returncode == 0:
                return Path(asked.stdout.strip())
    raise AssertionError("there is no Python 3.13 here to try")
