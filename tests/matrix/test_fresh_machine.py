"""The README's commands on machines that nobody has touched: `env -i`, an empty HOME, no caches.

By interpreter and by user, as far as the machine at hand allows: Debian's `python3`, another 3.11,
root and (as root) an ordinary user; Python 3.13 alone, as Debian 13 has it; and with torch as PyPI
alone has it. Needs the package registry, 6 GB and half an hour on a busy machine, so it is asked
for by its marker:

    ./doit test -m matrix tests/matrix
    ./doit test -m matrix tests/matrix -k cuda

What the commands say is shown as it comes. The training environment is made once and shared: of the
system's Python, which everybody may run; the one with CUDA's torch goes with its test.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rules.host import training_env

pytestmark = pytest.mark.matrix

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "65534"
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Variables that only tell where packages come from, and not what was installed.
KEPT = ("PIP_CONFIG_FILE", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT",
        "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
        "https_proxy", "http_proxy", "no_proxy")  # fmt: skip


def other_python() -> Path | None:
    """Return a CPython 3.11 on PATH that the system did not install."""
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


Show = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A fresh clone with a HOME of its own; `sources` tells pip where to look."""

    root: Path
    home: Path
    path: str
    show: Show
    user: str | None = None
    sources: dict[str, str] = field(default_factory=dict)

    def doit(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        words = [str(self.root / "doit"), *arguments]
        if self.user:
            who = [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
            words = ["setpriv", *who, *words]
        started = time.monotonic()
        lines: list[str] = []
        with tempfile.TemporaryFile("w+") as printed:
            with subprocess.Popen(
                words,
                cwd=self.root,
                env={"HOME": str(self.home), "PATH": self.path, "AICERT_INSTALL": "no"}
                | self.sources,
                stdout=printed,
                stderr=subprocess.PIPE,
                text=True,
                stdin=subprocess.DEVNULL,
            ) as process:
                assert process.stderr is not None
                for line in process.stderr:
                    lines.append(line)
                    self.show(line.rstrip())
            printed.seek(0)
            self.show(f"{time.monotonic() - started:.0f} s  ./doit {' '.join(arguments)}")
            return subprocess.CompletedProcess(
                words, process.returncode, stdout=printed.read(), stderr="".join(lines)
            )


def kept() -> dict[str, str]:
    """Return pip's own configuration, even if it is in the HOME that is taken away."""
    variables = {name: os.environ[name] for name in KEPT if name in os.environ}
    own = Path.home() / ".config/pip/pip.conf"
    if own.is_file():
        # An ordinary user cannot read root's configuration.
        copy = Path(tempfile.gettempdir(), f"aicert-matrix-pip-{os.getuid()}.conf")
        shutil.copyfile(own, copy)
        variables.setdefault("PIP_CONFIG_FILE", str(copy))
    return variables


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Make a folder that every user may read, unlike pytest's own."""
    place = Path(tempfile.mkdtemp(prefix="aicert-matrix-", dir="/var/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Show:
    """Return a function that prints a line at once: half an hour of silence looks like a hang."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def print_line(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"{request.node.name}  {line}", file=sys.stderr, flush=True)

    return print_line


def fresh(folder: Path, name: str, path: str, show: Show, user: str | None = None) -> Machine:
    root, home = folder / name / "a clone", folder / name / "home"
    home.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, root], check=True)
    shared = folder / training_env.location(ROOT).name
    (root / ".aicert/envs").mkdir(parents=True)
    if shared.exists():
        (root / ".aicert/envs" / shared.name).symlink_to(shared)
    if user:
        subprocess.run(["chown", "--recursive", "-h", f"{user}:{user}", folder / name], check=True)
    return Machine(root=root, home=home, path=path, show=show, user=user, sources=kept())


def certifies(machine: Machine, folder: Path) -> None:
    done = machine.doit("certify")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "PASSED" in done.stdout
    assert "warning" not in done.stderr
    tested = machine.doit("test", "tests/unit/test_layering.py")
    assert tested.returncode == 0, tested.stderr[-4000:] + tested.stdout[-4000:]
    again = machine.doit("certify")
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True), again.stderr
    environment = machine.root / ".aicert/envs" / training_env.location(ROOT).name
    if not environment.is_symlink():
        # The link leads to its original path, which its scripts name.
        (folder / environment.name).symlink_to(environment)


def test_the_systems_python(folder: Path, show: Show) -> None:
    certifies(fresh(folder, "system", SYSTEM, show), folder)


def test_an_ordinary_user(folder: Path, show: Show) -> None:
    # A run as an ordinary user already covers this case everywhere else.
    assert os.geteuid() == 0, "run as root: an ordinary user is made from it"
    certifies(fresh(folder, "user", SYSTEM, show, NOBODY), folder)


def test_root_with_another_python(folder: Path, show: Show) -> None:
    python = other_python()
    assert python is not None, "PATH has no CPython 3.11 but the system's: nothing to compare with"
    certifies(fresh(folder, "other", f"{python.parent}:{SYSTEM}", show), folder)


def test_cuda_torch_of_the_index_alone(folder: Path, show: Show) -> None:
    """Use an index without the CPU-only build of torch, such as PyPI alone."""
    machine = fresh(folder, "cuda", SYSTEM, show)
    (machine.root / ".aicert/envs" / training_env.location(ROOT).name).unlink(missing_ok=True)
    for name in ("PIP_CONFIG_FILE", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        machine.sources.pop(name, None)
    done = machine.doit("certify")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "PASSED" in done.stdout
    packages = machine.root.glob(".aicert/envs/training-*/lib/python3.11/site-packages")
    (torch,) = (path.name for place in packages for path in place.glob("torch-*.dist-info"))
    assert "+cpu" not in torch, "the index has the build for CPU only: this shows nothing"
    shutil.rmtree(machine.root)


def test_python_3_13_alone_gets_a_hint(folder: Path, show: Show) -> None:
    """Use a system like Debian 13, which has everything but Python 3.11."""
    programs = folder / "bin"
    programs.mkdir()
    for entry in (*Path("/usr/sbin").iterdir(), *Path("/usr/bin").iterdir()):
        if not entry.name.startswith("python") and not (programs / entry.name).exists():
            (programs / entry.name).symlink_to(entry)
    python = newest_python()
    for name in ("python3", "python3.13"):
        (programs / name).symlink_to(python)
    machine = fresh(folder, "newer", str(programs), show)
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
