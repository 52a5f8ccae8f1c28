"""Start DVC, one process at a time in a checkout, and always without telemetry."""

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aicert.errors import ToolError
from rules.dvc import environment

LOCK = Path(".aicert") / "dvc.lock"
_OBJECTS = Path("files") / "md5"
_TAIL = 2000


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold this checkout's DVC: otherwise a second one would fail on DVC's own lock."""
    path = root / LOCK
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run_dvc(root: Path, arguments: Sequence[str]) -> str:
    """Run `dvc ARGUMENTS` quietly and return its output. Raises ToolError with DVC's message."""
    _protect_from_root(root)
    return _quiet(root, arguments)


def _quiet(root: Path, arguments: Sequence[str]) -> str:
    done = subprocess.run(
        [environment.program(), *arguments],
        cwd=root,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout)[-_TAIL:].strip()
        raise ToolError(f"dvc {arguments[0]} failed:\n{reason}", hint="./doit dvc status")
    return done.stdout


def pass_through(root: Path, arguments: Sequence[str]) -> int:
    """Run `dvc ARGUMENTS` on the caller's terminal; returns DVC's exit code."""
    _protect_from_root(root)
    return subprocess.run(
        [environment.program(), *arguments], cwd=root, env=_environment()
    ).returncode


def objects_of(root: Path) -> Path:
    """Return where DVC stores objects for this checkout, according to DVC."""
    return Path(run_dvc(root, ["cache", "dir"]).strip()) / _OBJECTS


def own_objects(root: Path) -> Path:
    """Return where DVC stores objects by default. Starts nothing."""
    return root / ".dvc" / "cache" / _OBJECTS


def object_at(objects: Path, md5: str) -> Path:
    """Return an object's path; that of a directory's listing ends in `.dir`."""
    return objects / md5[:2] / md5[2:]


def _protect_from_root(root: Path) -> None:
    """Root can write to read-only files, and so through a hard link to DVC's copy. So for root the
    cache uses copy-on-write clones, or else copies, unless somebody configured it.
    """
    local = root / ".dvc" / "config.local"
    chosen = local.is_file() and re.search(r"^\s*type\s*=", local.read_text("utf-8"), re.MULTILINE)
    if os.geteuid() == 0 and not chosen:
        _quiet(root, ["config", "--local", "cache.type", "reflink,copy"])


def _environment() -> dict[str, str]:
    # `.dvc/config` says so too, but a checkout with a changed config must not start telemetry.
    return os.environ | {"DVC_NO_ANALYTICS": "1"}
