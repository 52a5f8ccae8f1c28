"""Set up a checkout: system packages by name, and `.venv` from the hashed locks.

An interrupted set-up starts over, a changed lock makes a new environment, two set-ups wait for each
other, and a running doit keeps the environment that it runs in. `.venv` is a link, and it moves
only when the environment behind it is complete. This imports nothing that is installed, because it
runs before anything is (`./doit` starts it with the system's Python).

It does not support package managers other than apt (it prints the names), and the training
environment is made elsewhere.
"""

import contextlib
import errno
import hashlib
import importlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rules.host import installer
from rules.host.file_lock import alone
from rules.host.os_errors import explained
from rules.host.places import CODE, PROJECT, VENV

BUILD_LOCK = Path("rules/build-requirements.lock")
MAIN_LOCK = Path("rules/requirements.lock")
TESTS_LOCK = Path("tests/requirements.lock")
# In this order: `./doit` considers the environment complete once the last one is there.
MARKERS = (BUILD_LOCK, MAIN_LOCK)
APT = ("apt-get", "install", "--yes", "--no-install-recommends")


class SetupError(installer.InstallError):
    """An error that stops the set-up, with its hint; `exit_code` is as in aicert.errors."""

    def __init__(self, message: str, *, hint: str, exit_code: int = 2) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A Debian or Ubuntu package, and a check without dpkg for what we need from it."""

    package: str
    present: Callable[[], bool]


def say(text: str) -> None:
    """Print a progress line. stdout is reserved for the command's own output."""
    print(f"setup  {text}", file=sys.stderr, flush=True)


def _program(name: str) -> Callable[[], bool]:
    # Users other than root often have no sbin directory in PATH.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return lambda: shutil.which(name, path=path) is not None


def _header(path: str) -> Callable[[], bool]:
    return lambda: Path("/usr/include", path).is_file()


def _has_venv() -> bool:
    # Debian ships `venv` without the `ensurepip` that it needs.
    return find_spec("venv") is not None and find_spec("ensurepip") is not None


def _has_python_header() -> bool:
    return Path(sysconfig.get_path("include"), "Python.h").is_file()


def run_needs() -> list[Need]:
    """Return what the commands themselves call."""
    return [
        Need(package="swtpm", present=_program("swtpm")),
        Need(package="bubblewrap", present=_program("bwrap")),
        Need(package="util-linux", present=_program("setpriv")),
    ]


def build_needs() -> list[Need]:
    """Return what it takes to build the environment; tpm2-pytss is compiled for this
    interpreter.
    """
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return [
        Need(package="libtss2-dev", present=_header("tss2/tss2_esys.h")),
        Need(package="gcc", present=_program("cc")),
        Need(package="libc6-dev", present=_header("stdio.h")),
        Need(package="pkg-config", present=_program("pkg-config")),
        Need(package=f"{python}-dev", present=_has_python_header),
        Need(package=f"{python}-venv", present=_has_venv),
    ]


def test_needs() -> list[Need]:
    """Return the oracles that tests compare with."""
    return [
        Need(package="tpm2-tools", present=_program("tpm2_checkquote")),
        Need(package="openssl", present=_program("openssl")),
        # Azurite and the provider's schema are npm packages.
        Need(package="nodejs", present=_program("node")),
        Need(package="npm", present=_program("npm")),
        Need(package="softhsm2", present=_program("softhsm2-util")),
        # Tests need it for the pages that `aicert report` and `./doit page` make.
        Need(package="chromium", present=_program("chromium")),
        Need(package="firefox-esr", present=_program("firefox-esr")),
    ]


def is_systems_python(executable: str) -> bool:
    """Whether apt's Python packages are for this interpreter."""
    return Path(executable).resolve().parent == Path("/usr/bin")


def ensure_packages(needs: Iterable[Need]) -> None:
    """Install missing packages if that needs no password; otherwise say how (exit 3)."""
    missing = [need.package for need in needs if not need.present()]
    if not missing:
        return
    own = [name for name in missing if name.startswith("python")]
    if own and not is_systems_python(sys.executable):
        raise SetupError(
            f"{sys.executable} has no headers or no venv module ({', '.join(own)})",
            hint="AICERT_PYTHON=/usr/bin/python3 ./doit",
            exit_code=3,
        )
    prefix = _as_root()
    if prefix is None:
        raise SetupError(
            f"system packages are missing: {', '.join(missing)}",
            hint=_install_command(missing),
            exit_code=3,
        )
    say(f"installing system packages: {' '.join(missing)}")
    if not _has_package_lists():
        _apt([*prefix, "apt-get", "update"])
    if not _apt([*prefix, *APT, "-o", "DPkg::Lock::Timeout=300", *missing]):
        # Package lists older than the mirror name files that no longer exist.
        _apt([*prefix, "apt-get", "update"])
        _apt([*prefix, *APT, "-o", "DPkg::Lock::Timeout=300", *missing])
    left = [name for name in missing if not _now_present(name, needs)]
    if left:
        raise SetupError(
            f"apt-get did not install {', '.join(left)}", hint=_install_command(left), exit_code=3
        )


def _now_present(package: str, needs: Iterable[Need]) -> bool:
    # Otherwise find_spec does not see a module that apt has just installed.
    importlib.invalidate_caches()
    return all(need.present() for need in needs if need.package == package)


def _as_root() -> list[str] | None:
    if os.environ.get("AICERT_INSTALL") == "no" or not _program("apt-get")():
        return None
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if os.geteuid() == 0:
        return environment
    if _program("sudo")() and _quiet(["sudo", "-n", "true"]):
        return ["sudo", "-n", *environment]
    return None


def _install_command(packages: list[str]) -> str:
    if not _program("apt-get")():
        return "install them with this system's package manager (the names are Debian's)"
    sudo = "" if os.geteuid() == 0 else "sudo "
    update = "" if _has_package_lists() else f"{sudo}apt-get update && "
    return f"{update}{sudo}{shlex.join([*APT, *packages])}"


def _has_package_lists() -> bool:
    return any(Path("/var/lib/apt/lists").glob("*_Packages*"))


def _quiet(command: list[str]) -> bool:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return done.returncode == 0


def _apt(command: list[str]) -> bool:
    return installer.run(command, _shown("Get:", "Setting up", "E:", "Err:")).code == 0


def _shown(*starts: str) -> installer.OnLine:
    """Passes on lines that start with one of these."""

    def show(line: str) -> None:
        if line.strip().startswith(starts):
            say(f"  {line.strip()[:150]}")

    return show


def cache_directory(root: Path = PROJECT) -> Path:
    """Return where environments, inputs and images are stored: `.aicert` of the repository `root`,
    or `$AICERT_CACHE` to share them between checkouts.

    The path is resolved, because either may be a link to a larger disk. What is behind a link is
    not part of the checkout (git and DVC refuse paths through it), and apt must be able to write
    the real path when images are built.
    """
    return Path(os.environ.get("AICERT_CACHE") or root / ".aicert").resolve()


def is_ready() -> bool:
    """Whether the environment is complete and made from the locks of this code."""
    return os.access(VENV / "bin/python", os.X_OK) and _is_whole(VENV)


def _is_whole(environment: Path) -> bool:
    return all(_same_text(CODE / lock, environment / lock.name) for lock in MARKERS)


def _same_text(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except FileNotFoundError:
        return False


def _say_waiting() -> None:
    say("waiting for another ./doit that is setting up")


def ensure_environment() -> None:
    """Make `.venv` if it is missing or does not match the locks."""
    key = hashlib.sha256(os.path.realpath(sys.executable).encode())
    for lock in MARKERS:
        key.update((CODE / lock).read_bytes())
    environments = cache_directory() / "envs"
    environment = environments / f"doit-{key.hexdigest()[:12]}"
    with alone(environments / "setup.lock", _say_waiting):
        usable = _is_whole(environment) and os.access(environment / "bin/python", os.X_OK)
        if not usable:
            _make(environment)
        _switch(VENV, environment)


def _make(environment: Path) -> None:
    say(f"making {environment}")
    installer.make_environment(Path(sys.executable), environment)
    _install(environment, BUILD_LOCK)
    _install(environment, MAIN_LOCK)
    _check_tss(environment)
    for lock in MARKERS:
        _mark(environment, lock)
    say("environment is ready")


def _check_tss(environment: Path) -> None:
    """If tpm2-pytss is built without cffi or TSS, the build succeeds but lacks its extension."""
    if "\ntpm2-pytss==" not in (CODE / MAIN_LOCK).read_text():
        return
    python = str(environment / "bin" / "python")
    ended = installer.run([python, "-I", "-c", "import tpm2_pytss.ESAPI"])
    if ended.code != 0:
        raise SetupError(
            f"tpm2-pytss was built without its extension:\n{ended.cause}",
            hint="./doit  # once the cause is fixed",
        )


def _mark(environment: Path, lock: Path, name: str | None = None) -> None:
    beside = environment / "marker.new"
    shutil.copyfile(CODE / lock, beside)
    beside.replace(environment / (name or lock.name))


def _install(environment: Path, lock: Path) -> None:
    say(f"installing {lock}")
    python = environment / "bin/python"
    shown = _shown("Collecting", "Building wheel", "Installing collected", "ERROR")
    installer.install(python, CODE / lock, builder=python, on_line=shown)


def _switch(link: Path, environment: Path) -> None:
    if link.is_dir() and not link.is_symlink():
        raise SetupError(
            f"{link} is a directory that this project did not create",
            hint=f"mv {shlex.quote(str(link))} {shlex.quote(str(link) + '.old')}",
            exit_code=3,
        )
    target = environment
    with contextlib.suppress(ValueError):
        # Relative if possible, so that the checkout can be moved.
        target = environment.relative_to(link.parent)
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(exist_ok=True)
    beside = link.with_name(f".venv.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        beside.symlink_to(target)
    except OSError as error:
        # exFAT and some network shares return this error.
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise SetupError(
            f"cannot create {link}: this file system does not support symbolic links",
            hint="work in a copy of the checkout on a disk that supports them",
        ) from None
    beside.replace(link)


def ensure_test_tools() -> None:
    """Add `tests/requirements.lock` and the tests' system packages; `./doit test` calls this."""
    ensure_packages(test_needs())
    environment = VENV.resolve()
    if _same_text(CODE / TESTS_LOCK, environment / "tests.lock"):
        return
    with alone(environment.parent / "setup.lock", _say_waiting):
        _install(environment, TESTS_LOCK)
        _mark(environment, TESTS_LOCK, "tests.lock")


def main() -> int:
    """Set up. Exit codes are doit's: 2 if something failed, 3 if the user has to act."""
    try:
        ensure_packages([*run_needs(), *([] if is_ready() else build_needs())])
        if not is_ready():
            ensure_environment()
    except installer.InstallError as error:
        return _ended(error.message, error.hint, error.exit_code)
    except OSError as error:
        reason = explained(error)
        return _ended(reason.message, reason.hint, reason.exit_code)
    except KeyboardInterrupt:
        print("interrupted: ./doit continues from here", file=sys.stderr)
        return 130
    return 0


def _ended(message: str, hint: str | None, exit_code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    if hint is not None:
        print(f"hint: {hint}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
