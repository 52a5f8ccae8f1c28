"""Make the training environment: CPython 3.11 with exactly what two hashed locks name.

The environment's place carries the digest of its lock, so a changed lock makes another
environment and never alters one in use. `complete`, written last, holds the digest of both
locks: without it, or with another digest in it, the environment is removed and made again, since
an installer that was stopped leaves no way to tell a whole package from half of one. One maker
at a time (flock). Left out: choosing where packages come from. That is pip's own configuration;
the hashes decide.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import selectors
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aicert.errors import ToolError
from rules.bootstrap import cache_directory

OnLine = Callable[[str], None]
OnProgress = Callable[[int, int], None]

HERE = Path(__file__).resolve().parent.parent
LOCK = HERE / "enclave_runner" / "requirements.lock"
CUDA_LOCK = HERE / "enclave_runner" / "requirements-cuda.lock"
_MARKER = "complete"
_TICK_SECONDS = 0.5
_REQUIREMENT = re.compile(r"^([a-z0-9][a-z0-9.-]*)==", re.MULTILINE)
_PROBE = (
    "import sys, platform, venv, ensurepip;"
    "ok = sys.version_info[:2] == (3, 11) and platform.python_implementation() == 'CPython';"
    "sys.exit(0 if ok else 1)"
)


def location(root: Path) -> Path:
    """Where the environment of the lock at hand belongs, made or not."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    return cache_directory(root) / "envs" / f"training-{digest[:12]}"


def python(environment: Path) -> Path:
    """The environment's interpreter."""
    return environment / "bin" / "python"


def is_complete(environment: Path) -> bool:
    """Whether it was made to the end, from the locks at hand."""
    try:
        return (environment / _MARKER).read_text(encoding="ascii") == _marker()
    except (FileNotFoundError, NotADirectoryError):
        return False


def ensure(
    root: Path, *, on_line: OnLine | None = None, on_progress: OnProgress | None = None
) -> Path:
    """The whole environment's directory, made first where it is missing.

    `on_line` gets what the installer says; `on_progress` the packages dealt with and their number,
    each package counting twice (once found, once installed). Raises ToolError.
    """
    environment = location(root)
    if is_complete(environment):
        return environment
    environment.parent.mkdir(parents=True, exist_ok=True)
    with only_maker(environment, on_line):
        if not is_complete(environment):
            if environment.exists():
                shutil.rmtree(environment)
            _make(environment, on_line or _silent, on_progress or _silent_progress)
    return environment


def _silent(line: str) -> None:
    del line


def _silent_progress(done: int, total: int) -> None:
    del done, total


def _marker() -> str:
    both = hashlib.sha256(LOCK.read_bytes() + b"\0" + CUDA_LOCK.read_bytes())
    return both.hexdigest() + "\n"


@contextmanager
def only_maker(environment: Path, on_line: OnLine | None) -> Iterator[None]:
    """Hold the environment's lock; says so when another maker makes us wait."""
    lock = os.open(environment.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_line is not None:
                on_line(f"another process is making {environment.name}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _make(environment: Path, on_line: OnLine, on_progress: OnProgress) -> None:
    base = find_python()
    on_line(f"making the training environment with {base}")
    run_installer([str(base), "-I", "-m", "venv", str(environment)], on_line)
    # The two packages without a wheel are built with a setuptools that the lock names, not with
    # one that pip would fetch by itself.
    builder = environment / "builder.txt"
    builder.write_text(_one_requirement("setuptools"), encoding="ascii")
    install(environment, builder, on_line)
    _take_cpu_torch(environment, builder, on_line)
    builder.unlink()
    install(environment, LOCK, on_line, on_progress)
    if not _torch_is_for_cpu_only(environment):
        on_line("pip took the build of torch with CUDA: installing the libraries that it loads")
        install(environment, CUDA_LOCK, on_line, on_progress)
    on_line("compiling")
    run_installer([str(python(environment)), "-I", "-m", "compileall", "-q", "-j", "0",
          str(_site_packages(environment))], on_line, check=False)  # fmt: skip
    marker = environment / (_MARKER + ".new")
    marker.write_text(_marker(), encoding="ascii")
    os.replace(marker, environment / _MARKER)


def _take_cpu_torch(environment: Path, requirement: Path, on_line: OnLine) -> None:
    """Install the build of torch for CPU only where it can be had: a tenth of the other's size.

    It is tried by its own version, because pip, given both hashes, prefers the build whose hash the
    index states. Where no source of pip's configuration has it, the main lock takes PyPI's build.
    """
    text = _one_requirement("torch")
    first = re.match(r"torch==(\S+) \\\n    (--hash=sha256:[0-9a-f]{64})", text)
    if first is None:
        raise ToolError(f"{LOCK.name} gives no hash for torch")
    requirement.write_text(f"torch=={first[1]}+cpu {first[2]}\n", encoding="ascii")
    try:
        install(environment, requirement, on_line)
    except ToolError:
        on_line("no build of torch for CPU only: taking the one with CUDA, some 3 GB more")


def find_python() -> Path:
    """A CPython 3.11 that can make environments: this one, else the first on PATH."""
    candidates = [Path(sys.executable)] if sys.version_info[:2] == (3, 11) else []
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    candidates += [Path(folder) / "python3.11" for folder in folders if folder]
    for candidate in candidates:
        if not os.access(candidate, os.X_OK):
            continue
        probe = subprocess.run([candidate, "-I", "-c", _PROBE], capture_output=True, check=False)
        if probe.returncode == 0:
            return candidate
    raise ToolError(
        "training needs CPython 3.11 with its venv module, and PATH has none",
        hint="sudo apt-get install python3.11 python3.11-venv",
    )


def _one_requirement(name: str) -> str:
    match = re.search(rf"^{name}==.*\n(?:    --hash=.*\n)+", LOCK.read_text("ascii"), re.MULTILINE)
    if match is None:
        raise ToolError(f"{LOCK.name} does not name {name}")
    return match[0]


def install(
    environment: Path,
    lock: Path,
    on_line: OnLine,
    on_progress: OnProgress | None = None,
) -> None:
    """Install exactly what `lock` names, by hash, into `environment`. Raises ToolError."""
    total = len(_REQUIREMENT.findall(lock.read_text(encoding="ascii")))
    found = 0

    def take(line: str) -> None:
        nonlocal found
        on_line(line)
        if line.startswith(("Collecting ", "Requirement already satisfied")):
            found = min(found + 1, total)

    def tell() -> None:
        # pip installs in silence: what it has put in place by then counts as well.
        there = len(list(_site_packages(environment).glob("*.dist-info")))
        if on_progress is not None:
            on_progress(min(found + there, 2 * total - 1), 2 * total)

    command = [str(python(environment)), "-I", "-m", "pip", "install", "--no-deps"]
    command += ["--require-hashes", "--no-build-isolation", "--no-compile", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-r", str(lock)]
    run_installer(command, take, tell)
    if on_progress is not None:
        on_progress(2 * total, 2 * total)


def run_installer(
    command: Sequence[str],
    on_line: OnLine,
    on_tick: Callable[[], None] | None = None,
    *,
    check: bool = True,
) -> None:
    """Run it; `on_tick` is called twice a second and more, said something or not."""
    # The child must not outlive a killed parent: it would write into the next one's environment.
    tether = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", "PIP_REQUIRE_VIRTUALENV": "0"}
    tail: list[str] = []
    with subprocess.Popen(
        [*tether, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
    ) as child:
        try:
            for line in _lines(child, on_tick or _no_tick):
                tail = [*tail[-4:], line]
                on_line(line)
        except BaseException:
            child.kill()
            raise
    if check and child.returncode != 0:
        raise ToolError(
            f"{' '.join(command[2:5])} ended with {child.returncode}:\n" + "\n".join(tail),
            hint="check network and pip configuration, then run the command again",
        )


def _lines(child: subprocess.Popen[bytes], on_tick: Callable[[], None]) -> Iterator[str]:
    if child.stdout is None:
        raise ToolError("the installer's output cannot be read")
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(_TICK_SECONDS):
                data = os.read(child.stdout.fileno(), 65536)
                *whole, rest = (rest + data).split(b"\n")
                yield from (line.decode("utf-8", "replace").rstrip() for line in whole)
                if not data:
                    return
            on_tick()


def _no_tick() -> None:
    pass


def _site_packages(environment: Path) -> Path:
    return environment / "lib" / "python3.11" / "site-packages"


def _torch_is_for_cpu_only(environment: Path) -> bool:
    return any(_site_packages(environment).glob("torch-*+cpu.dist-info"))


def main() -> int:
    """Make it and print where it is."""
    environment = ensure(HERE, on_line=lambda line: print(line, file=sys.stderr))
    print(environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
