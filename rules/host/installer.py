"""Install exactly what a hashed lock names. Every environment is filled by this module.

pip has no freedom: it resolves no dependencies, every file has its SHA-256 in the lock, and only
wheels are installed. The few packages without a wheel (`SDISTS`) are built first, in a step of
their own, in an environment that holds `rules/build-requirements.lock` (doit's does) and nothing
that pip chose. After a failure, the part of the installer's output that names the cause is shown.

A newer release of any package, on any index, changes nothing. Only the standard library is
imported, because set-up runs this before anything is installed. Where files come from is pip's own
configuration; the hashes decide.
"""

import hashlib
import os
import re
import selectors
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rules.host.file_lock import alone

# Packages in our locks that were source-only when they were locked.
SDISTS = frozenset(
    (
        "antlr4-python3-runtime",
        "axolotl-contribs-lgpl",
        "axolotl-contribs-mit",
        "jsonpath-rw",
        "tpm2-pytss",
    )
)
# Options for every pip that this project starts.
QUIET = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
# The lock decides everything except where files come from.
CLOSED = ("--no-deps", "--require-hashes")
# pip applies both options in order: only wheels, except for these packages.
FORMATS = ("--only-binary", ":all:", "--no-binary", ",".join(sorted(SDISTS)))
_MEMBER = re.compile(r"^([a-z0-9][a-z0-9.-]*)==[^ \n]+.*\n?(?:    --hash=.*\n?)*", re.MULTILINE)
_FAILURE = re.compile(r"\s*(?:ERROR\b|error: |× |E: |Error: |Traceback )")
_HEAD_LINES = 20
_TAIL_LINES = 40
_TICK_SECONDS = 0.5
# A user's pip configuration is for the user's own environments: these options say what to install
# where.
_OF_OTHER_INSTALLS = (
    "PIP_CONSTRAINT", "PIP_DRY_RUN", "PIP_EDITABLE", "PIP_NO_BINARY", "PIP_ONLY_BINARY",
    "PIP_PREFIX", "PIP_REPORT", "PIP_REQUIREMENT", "PIP_ROOT", "PIP_TARGET", "PIP_UPGRADE",
)  # fmt: skip

OnLine = Callable[[str], None]
OnTick = Callable[[], None]


class InstallError(Exception):
    """An error that stops an installation; `message` ends with the installer's own
    output about it.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(slots=True, kw_only=True)
class _Output:
    """The part of a program's output that says why it failed, in bounded memory."""

    before: deque[str] = field(default_factory=lambda: deque(maxlen=_HEAD_LINES))
    head: list[str] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    dropped: int = 0

    def add(self, line: str) -> None:
        if not self.head and not _FAILURE.match(line):
            self.before.append(line)
        elif len(self.head) < _HEAD_LINES:
            self.head.append(line)
        else:
            self.dropped += len(self.tail) == _TAIL_LINES
            self.tail.append(line)

    def cause(self) -> str:
        """Return everything from the first line that names an error; the last lines if none
        does.
        """
        left_out = [f"[… {self.dropped} lines …]"] if self.dropped else []
        return "\n".join([*self.head, *left_out, *self.tail] if self.head else self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended, and what it printed about a failure."""

    code: int
    cause: str


def _no_line(line: str) -> None:
    del line


def _no_tick() -> None:
    pass


def run(
    command: Sequence[str],
    on_line: OnLine = _no_line,
    on_tick: OnTick = _no_tick,
    *,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run an installer. `on_line` gets its output; `on_tick` is called at least twice a second."""
    # The child must not outlive a killed parent, or it would write into the next environment.
    tether = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    output = _Output()
    with subprocess.Popen(
        [*tether, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    ) as child:
        try:
            for line in _lines(child, on_tick):
                output.add(line)
                on_line(line)
        except BaseException:
            child.kill()
            raise
    return Ended(code=child.returncode, cause=output.cause())


def _lines(child: "subprocess.Popen[bytes]", on_tick: OnTick) -> Iterator[str]:
    if child.stdout is None:
        raise OSError("cannot read the installer's output")
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(_TICK_SECONDS):
                data = os.read(child.stdout.fileno(), 65536)
                *whole, rest = (rest + data).split(b"\n")
                # An unfinished last line counts too: a killed installer leaves one.
                whole += [rest] if rest and not data else []
                yield from (line.decode("utf-8", "replace").rstrip() for line in whole)
                if not data:
                    return
            on_tick()


def make_environment(base: Path, environment: Path, on_line: OnLine = _no_line) -> None:
    """Make an empty virtual environment with the interpreter `base`; remove what was
    there first.
    """
    if environment.is_symlink() or environment.is_file():
        environment.unlink()
    elif environment.exists():
        shutil.rmtree(environment)
    ended = run([str(base), "-I", "-m", "venv", str(environment)], on_line)
    if ended.code != 0:
        raise InstallError(
            f"{base} -m venv failed with exit code {ended.code}:\n{ended.cause}",
            hint="./doit  # once the cause is fixed",
        )


@contextmanager
def only_maker(place: Path, on_line: OnLine = _no_line) -> Iterator[None]:
    """Hold the lock next to `place`, and say so if we wait for another process."""
    # Not `with_suffix`: a dot in the name is part of the name.
    name = place.with_name(place.name + ".lock")
    with alone(name, lambda: on_line(f"another process is making {place.name}: waiting for it")):
        yield


def members(text: str) -> dict[str, str]:
    """Return the requirements in a lock by name, each as pip reads it."""
    return {block[1]: block[0].rstrip("\n") + "\n" for block in _MEMBER.finditer(text)}


def install(
    python: Path,
    lock: Path,
    *,
    builder: Path | None = None,
    target: Path | None = None,
    compile_code: bool = True,
    on_line: OnLine = _no_line,
    on_tick: OnTick = _no_tick,
) -> None:
    """Install exactly what `lock` names into `python`'s environment, or into the folder `target`.

    `builder` is an interpreter whose environment holds the build lock (default: this one). Raises
    InstallError.
    """
    text = lock.read_text(encoding="ascii")
    _refuse_what_is_not_read(lock, text)
    named = members(text)
    sources = {name: line for name, line in named.items() if name in SDISTS}
    with tempfile.TemporaryDirectory(prefix="aicert-install-") as folder:
        work = Path(folder)
        lines = [line for name, line in named.items() if name not in sources]
        if sources:
            built = _build(builder or Path(sys.executable), lock, sources, work, on_line, on_tick)
            lines += built
        wheels = work / lock.name
        wheels.write_text("".join(lines), encoding="ascii")
        command = [str(python), "-I", "-m", "pip", "install", *QUIET, *CLOSED]
        command += ["--only-binary", ":all:", "-r", str(wheels)]
        command += [] if compile_code else ["--no-compile"]
        command += ["--upgrade", "--target", str(target)] if target else []
        _pip(command, lock, on_line, on_tick)


def _refuse_what_is_not_read(lock: Path, text: str) -> None:
    """Refuse a line that is not a requirement with a hash: it would be skipped silently."""
    rest = _MEMBER.sub("", text)
    for line in rest.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            raise InstallError(
                f"{lock} has a line that is not a requirement: {line}", hint="git diff"
            )
    for name, block in members(text).items():
        if "--hash=sha256:" not in block:
            raise InstallError(f"{lock} gives no hash for {name}", hint="git diff")


def _build(
    builder: Path,
    lock: Path,
    sources: Mapping[str, str],
    work: Path,
    on_line: OnLine,
    on_tick: OnTick,
) -> Iterable[str]:
    """Build wheels of the hashed sources. Yields requirements for exactly these wheels."""
    requirements = work / f"sources-{lock.name}"
    requirements.write_text("".join(sources.values()), encoding="ascii")
    place = work / "built"
    # Never take a wheel from pip's cache: it may have been built against other libraries.
    command = [str(builder), "-I", "-m", "pip", "wheel", *QUIET, *CLOSED, "--no-binary", ":all:"]
    command += ["--no-build-isolation", "--use-pep517", "--no-cache-dir"]
    _pip([*command, "-w", str(place), "-r", str(requirements)], lock, on_line, on_tick)
    for wheel in sorted(place.glob("*.whl")):
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        name = wheel.name.partition("-")[0].replace("_", "-")
        yield f"{name} @ {wheel.as_uri()} --hash=sha256:{digest}\n"


def _pip(command: Sequence[str], lock: Path, on_line: OnLine, on_tick: OnTick) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in _OF_OTHER_INSTALLS}
    environment |= {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    ended = run(command, on_line, on_tick, environment=environment)
    if ended.code != 0:
        raise InstallError(
            f"pip could not install {_shown(lock)} (exit code {ended.code}):\n{ended.cause}",
            # Name this pip, because Debian's Python has none.
            hint=f"{shlex.quote(command[0])} -m pip config list  # check that and the network",
        )


def _shown(path: Path) -> str:
    """Return the path, relative if it is below the current directory."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
