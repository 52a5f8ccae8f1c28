"""Make the training environment: CPython 3.11 with exactly what two hashed locks name, minus what
`rules/host/hardening.py` removes.

The environment's path contains the digest of its lock and of that list, so a change to either makes
a new environment and never alters one in use. `complete`, written last, holds the digest of all
three. If it is missing or different, the environment is removed and made again, because nobody can
tell what an interrupted installer has finished. Only one process makes it at a time (flock). Where
packages come from is pip's own configuration; the hashes decide.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from aicert.errors import ToolError
from rules.host import hardening, installer, progress, room
from rules.host.bootstrap import cache_directory
from rules.host.installer import OnLine
from rules.host.places import CODE

OnProgress = Callable[[int, int], None]

LOCK = CODE / "enclave_runner" / "requirements.lock"
CUDA_LOCK = CODE / "enclave_runner" / "requirements-cuda.lock"
# This lock is only used in the image with GPU support.
KERNELS_LOCK = CODE / "enclave_runner" / "requirements-kernels.lock"
_MARKER = "complete"
# With the CPU-only build of torch; the other one takes twice as much.
_SIZE = 4 * room.GB
# Releases with python3.11 in their own archive.
_HAVE_3_11 = {("debian", "12"), ("ubuntu", "22.04"), ("ubuntu", "23.04"), ("ubuntu", "23.10")}
_PROBE = (
    "import sys, platform, venv, ensurepip;"
    "ok = sys.version_info[:2] == (3, 11) and platform.python_implementation() == 'CPython';"
    "sys.exit(0 if ok else 1)"
)


def location(root: Path) -> Path:
    """Return the path of the environment for the current lock and list, whether it exists
    or not.
    """
    digest = hashlib.sha256(LOCK.read_bytes() + b"\0" + hardening.digest().encode()).hexdigest()
    return cache_directory(root) / "envs" / f"training-{digest[:12]}"


def python(environment: Path) -> Path:
    """Return the environment's interpreter."""
    return environment / "bin" / "python"


def is_complete(environment: Path) -> bool:
    """Whether it is complete, matches the current locks, and its Python still exists."""
    try:
        python(environment).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        # Another user's Python: the environment is complete, and `require_usable` reports that.
        pass
    try:
        return (environment / _MARKER).read_text(encoding="ascii") == _marker()
    except (FileNotFoundError, NotADirectoryError):
        return False


def require_usable(environment: Path) -> None:
    """Raise ToolError if its Python belongs to another user, for example in root's home."""
    if not os.access(python(environment), os.X_OK):
        raise ToolError(
            f"the training environment {environment} uses a Python that this user may not run: "
            f"{os.path.realpath(python(environment))}",
            hint="AICERT_CACHE=~/.cache/aicert ./doit certify",
        )


def ensure_shown(root: Path) -> Path:
    """Like `ensure`, with progress: minutes and about 3 GB the first time, nothing afterwards."""
    environment = location(root)
    if is_complete(environment):
        require_usable(environment)
        return environment
    progress.say("making the training environment (Axolotl and torch, about 3 GB, minutes)")
    with progress.task("training environment", unit="steps", is_even=False) as bar:
        return ensure(
            root,
            on_line=lambda line: bar.update(note=line),
            on_progress=lambda done, total: bar.update(done=done, total=total),
        )


def ensure(
    root: Path, *, on_line: OnLine | None = None, on_progress: OnProgress | None = None
) -> Path:
    """Return the complete environment's directory. The environment is made first if it is missing.

    `on_line` gets the installer's output. `on_progress` gets how many packages are done and how
    many there are; each counts twice (once collected, once installed). Raises ToolError.
    """
    environment = location(root)
    if is_complete(environment):
        return environment
    with as_tool_errors(), installer.only_maker(environment, on_line or _silent):
        if not is_complete(environment):
            room.require(environment, _SIZE, "the training environment")
            _make(environment, on_line or _silent, on_progress or _silent_progress)
    return environment


def _silent(line: str) -> None:
    del line


def _silent_progress(done: int, total: int) -> None:
    del done, total


def _marker() -> str:
    parts = (LOCK.read_bytes(), CUDA_LOCK.read_bytes(), hardening.digest().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest() + "\n"


def _make(environment: Path, on_line: OnLine, on_progress: OnProgress) -> None:
    base = find_python()
    on_line(f"making the training environment with {base}")
    installer.make_environment(base, environment, on_line)
    _take_cpu_torch(environment, on_line)
    install(environment, LOCK, on_line, on_progress)
    if not _torch_is_for_cpu_only(environment):
        on_line("pip chose the CUDA build of torch: installing its libraries")
        install(environment, CUDA_LOCK, on_line, on_progress)
    # Before compilation: byte code of the old source would pass for that of the new.
    on_line("closing")
    try:
        hardening.harden(_site_packages(environment))
    except hardening.NotAsListedError as error:
        raise ToolError(
            f"cannot remove the loaders from the packages of {LOCK.name}: {error}"
        ) from error
    compile_code(environment, on_line)
    marker = environment / (_MARKER + ".new")
    marker.write_text(_marker(), encoding="ascii")
    os.replace(marker, environment / _MARKER)


def _take_cpu_torch(environment: Path, on_line: OnLine) -> None:
    """Install the CPU-only build of torch if it is available: it is a tenth of the size.

    It is requested by its own version, because pip, given both hashes, prefers the build whose hash
    the index states. If no source in pip's configuration has it, the main lock uses PyPI's build.
    """
    block = installer.members(LOCK.read_text(encoding="ascii")).get("torch", "")
    version, _, hashes = block.partition(" ")
    first = next((word for word in hashes.split() if word.startswith("--hash=")), None)
    if first is None:
        raise ToolError(f"{LOCK.name} gives no hash for torch")
    requirement = environment / "torch.lock"
    requirement.write_text(f"{version}+cpu {first}\n", encoding="ascii")
    try:
        install(environment, requirement, on_line)
    except installer.InstallError:
        on_line("there is no CPU-only build of torch: using the CUDA one, about 3 GB more")
    requirement.unlink()


def find_python() -> Path:
    """Return a CPython 3.11 that can make environments: this one, otherwise the first on PATH or in
    `~/.local/bin`, where uv puts it.
    """
    candidates = [Path(sys.executable)] if sys.version_info[:2] == (3, 11) else []
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    folders.append(os.path.expanduser("~/.local/bin"))
    candidates += [Path(folder) / "python3.11" for folder in folders if folder]
    for candidate in candidates:
        if not os.access(candidate, os.X_OK):
            continue
        probe = subprocess.run([candidate, "-I", "-c", _PROBE], capture_output=True, check=False)
        if probe.returncode == 0:
            return candidate
    raise ToolError(
        "training needs CPython 3.11 with its venv module, but PATH has none",
        hint=_how_to_get_python(),
    )


def _how_to_get_python() -> str:
    try:
        return python_hint(platform.freedesktop_os_release())
    except OSError:
        return python_hint({})


def python_hint(release: Mapping[str, str]) -> str:
    """Return how to get CPython 3.11 on a system with this `/etc/os-release`: few still
    package it.
    """
    sudo = "" if os.geteuid() == 0 else "sudo "
    kinds = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if (release.get("ID"), release.get("VERSION_ID")) in _HAVE_3_11:
        return f"{sudo}apt-get install python3.11 python3.11-venv"
    if kinds & {"fedora", "rhel"}:
        return f"{sudo}dnf install python3.11"
    if kinds & {"debian", "ubuntu"}:
        get = f"{sudo}apt-get install pipx && pipx install uv"
        return f"{get} && ~/.local/bin/uv python install 3.11"
    return "uv python install 3.11  # uv: https://docs.astral.sh/uv, or pyenv install 3.11"


@contextlib.contextmanager
def as_tool_errors() -> Iterator[None]:
    """Turn a failed installation into a ToolError with the installer's own words."""
    try:
        yield
    except installer.InstallError as error:
        raise ToolError(error.message, hint=error.hint) from None


def install(
    environment: Path,
    lock: Path,
    on_line: OnLine,
    on_progress: OnProgress | None = None,
) -> None:
    """Install exactly what `lock` names, with progress. Raises InstallError."""
    total = len(installer.members(lock.read_text(encoding="ascii")))
    collected = 0

    def take(line: str) -> None:
        nonlocal collected
        on_line(line)
        if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied")):
            collected = min(collected + 1, total)

    def tell() -> None:
        # pip installs silently: count what is already in place as well.
        there = len(list(_site_packages(environment).glob("*.dist-info")))
        if on_progress is not None:
            on_progress(min(collected + there, 2 * total - 1), 2 * total)

    installer.install(python(environment), lock, compile_code=False, on_line=take, on_tick=tell)
    if on_progress is not None:
        on_progress(2 * total, 2 * total)


def compile_code(environment: Path, on_line: OnLine) -> None:
    """Write byte code next to the installed files; files that do not compile stay as they are."""
    on_line("compiling")
    # That is the package's own problem: whoever imports it will see the error.
    installer.run([str(python(environment)), "-I", "-m", "compileall", "-q", "-j", "0",
          str(_site_packages(environment))], on_line)  # fmt: skip


def _site_packages(environment: Path) -> Path:
    """Return the environment's site-packages. DVC's environment may use a newer Python, and there
    is no such folder before it is made.
    """
    folders = list(environment.glob("lib/python3*/site-packages"))
    return folders[0] if folders else environment / "lib" / "python3.11" / "site-packages"


def _torch_is_for_cpu_only(environment: Path) -> bool:
    return any(_site_packages(environment).glob("torch-*+cpu.dist-info"))


def main() -> int:
    """Make the environment and print its path."""
    environment = ensure(CODE, on_line=lambda line: print(line, file=sys.stderr))
    print(environment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
