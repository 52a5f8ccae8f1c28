"""`./doit clean`: free disk space, after showing how much and asking.

Without names it removes what later commands create again by themselves. Environments take minutes
to build, so they go only when named. So do outputs and certificates, which cannot be recreated byte
for byte. The local CA is never removed: certificates chain to it.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError, ToolError
from aicert.text import safe
from rules.commands.base import Command
from rules.host.bootstrap import cache_directory
from rules.host.places import PROJECT, VENV
from rules.host.progress import amount
from rules.host.work import RUNS, USING, is_held, sweep, unused
from rules.host.work import remove as remove_tree
from rules.machines.machine import DRIVERS, Leftover, cloud


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Something that can be cleaned. A `named` area is kept unless the user names it."""

    name: str
    what: str
    patterns: tuple[str, ...]
    named: bool

    def paths(self, root: Path, cache: Path) -> list[Path]:
        """Return the existing paths. A pattern that starts with `CACHE/` is in the cache
        directory.
        """
        matching: set[Path] = set()
        for pattern in self.patterns:
            in_cache = pattern.startswith("CACHE/")
            base = cache if in_cache else root
            matching.update(base.glob(pattern.removeprefix("CACHE/")))
        return sorted(matching)


IMAGE_LAYERS = (
    *(
        f"{kind}-*"
        for kind in (
            "image",
            "training",
            "machine",
            "tools",
            "driver",
            "serving",
            "trainers",
            "reproduce",
        )
    ),
    *("kernel-*", "mkosi-*", "stub-*", "others-*", "*.new"),
    *("repository", "resolve", "source", "wheels-work"),
)
AREAS = (
    Area(
        name="runs",
        what="scratch of interrupted runs",
        patterns=(".aicert/runs/*/work",),
        named=False,
    ),
    Area(
        name="caches",
        what="digest cache, doit's database, tools' caches",
        patterns=(
            ".aicert/digests.sqlite*",
            ".aicert/doit.db*",
            "CACHE/configs",
            ".mypy_cache",
            ".pytest_cache",
            ".ruff_cache",
            ".hypothesis",
            ".coverage*",
        ),
        named=False,
    ),
    Area(
        name="envs",
        what="Python environments (minutes to rebuild)",
        patterns=("CACHE/envs/*", os.path.relpath(VENV, PROJECT)),
        named=True,
    ),
    Area(
        name="store",
        what="fetched inputs (fetched again when needed)",
        patterns=("CACHE/store",),
        named=True,
    ),
    Area(
        name="image",
        what="layers of the machine's image (minutes to rebuild)",
        patterns=tuple(f"CACHE/image/{name}" for name in IMAGE_LAYERS),
        named=True,
    ),
    Area(
        name="image-store",
        what="packages of the image (fetched again if mirrors still have them)",
        patterns=("CACHE/image/store", "CACHE/image/apt-*", ".aicert/packages"),
        named=True,
    ),
    Area(
        name="kept",
        what="replaced models that passed; finished runs that were not put in place",
        patterns=(".aicert/kept/*", ".aicert/finished/*"),
        named=True,
    ),
    Area(name="outputs", what="trained models", patterns=("outputs/*",), named=True),
    Area(name="certificates", what="certificates", patterns=("certificates/*",), named=True),
    Area(
        name="reproductions",
        what="certificates of reproductions",
        patterns=("reproductions/*",),
        named=True,
    ),
)


# Not on this disk: what costs money, belongs to interrupted runs or is known only to a cloud.
CLOUDS = {name: driver for name, driver in DRIVERS.items() if driver.cloud}


def size_of(path: Path) -> int:
    """Return the bytes on disk of a file or directory tree; links count as themselves."""
    total = 0
    pending = [path]
    while pending:
        current = pending.pop()
        try:
            total += current.lstat().st_blocks * 512
            if current.is_dir() and not current.is_symlink():
                pending.extend(current.iterdir())
        except FileNotFoundError:
            # A run that ends meanwhile deletes its own files.
            continue
    return total


def in_use(path: Path) -> bool:
    """Whether a certify is using this: while it runs, it holds locks on its run and environment.

    An environment's lock is its file `complete`. Running machines hold `running` in the image
    folder, and tasks hold the lock of the checkout's databases and inputs.
    """
    names = (path.parent / "lock", path / "complete", path.parent / "running")
    for lock in (*names, path.parent / USING.name):
        try:
            descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        if is_held(descriptor):
            return True
    return False


def remove(path: Path) -> None:
    """Remove a file, a link or a directory tree."""
    try:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ToolError(
            f"cannot remove {str(path)!r}: {error.strerror}", hint=f"sudo rm -r '{path}'"
        ) from None


class Clean(Command):
    """The `clean` command."""

    doc_purpose = "show what takes up disk space, then ask and remove it"
    doc_usage = "[AREA …] [--yes] [--dry-run]"
    doc_description = (
        "Areas: runs, caches, azure, envs, store, image, image-store, kept, outputs,\n"
        "certificates. Without names, clean takes runs, caches, and what interrupted runs of\n"
        "this checkout left on Azure; the others only if you name them. `azure` by name also asks\n"
        "Azure for everything with our tag. Files in use by a running certify stay, and so does\n"
        "the local CA."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "yes",
            "short": "y",
            "long": "yes",
            "type": bool,
            "default": False,
            "help": "do not ask",
        },
        {
            "name": "dry_run",
            "short": "n",
            "long": "dry-run",
            "type": bool,
            "default": False,
            "help": "only show sizes",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Show sizes, ask, remove."""
        known = {area.name for area in AREAS} | CLOUDS.keys()
        for name in args:
            if name not in known:
                raise ConfigError(
                    f"there is no area {name!r}; there are {', '.join(sorted(known))}",
                    hint="./doit clean --dry-run",
                )
        chosen = _shown(args)
        left = {name: _shown_cloud(name, args) for name in CLOUDS}
        if not chosen and not any(left.values()):
            print("nothing to remove")
            return 0
        if params["dry_run"]:
            return 0
        if not params["yes"]:
            _ask(args)
        with unused(Path.cwd()) as free:
            # Skip what a command has begun to use since sizes were shown.
            chosen = chosen if free else [path for path in chosen if not in_use(path)]
            for path in chosen:
                if path.name == "work" and path.parents[1] == Path.cwd() / RUNS:
                    # Remove it under the run's lock, but keep the lock file: another process may be
                    # opening it.
                    sweep(Path.cwd(), path.parent.name)
                else:
                    remove(path)
        print(f"removed {len(chosen)} files and folders")
        for name, items in left.items():
            if items:
                cloud(CLOUDS[name]).end(items)
        return 0


def _shown(names: list[str]) -> list[Path]:
    """Print every area with its size. Returns what `names` choose."""
    chosen: list[Path] = []
    for area in AREAS:
        # Clean the checkout of the working directory, not the one that this file is in.
        paths = area.paths(Path.cwd(), cache_directory(Path.cwd()))
        used = [path for path in paths if in_use(path)]
        paths = [path for path in paths if path not in used]
        wanted = area.name in names if names else not area.named
        total = amount(sum(size_of(path) for path in paths), "B")
        mark = "remove" if wanted and paths else "keep"
        print(f"{mark:<7} {area.name:<13} {total:>10}  {area.what}")
        if wanted:
            chosen += paths
            for path in paths:
                print(f"        {safe(str(path), 200)}")
        for path in used:
            print(f"        {safe(str(path), 200)}  in use: kept")
    return chosen


def _shown_cloud(name: str, names: list[str]) -> list[Leftover]:
    """Leftovers that cost money are removed without being named. The cloud is only queried if it is
    named.
    """
    if names and name not in names:
        _say_cloud(name, "not queried")
        return []
    leftovers = cloud(CLOUDS[name]).leftovers(Path.cwd(), ask=name in names)
    for item in leftovers:
        print(f"destroy {name:<13} {item.name}  {item.what}")
    if not leftovers:
        _say_cloud(name, "nothing known here" if name not in names else "nothing")
    return leftovers


def _say_cloud(name: str, text: str) -> None:
    print(f"{'keep':<7} {name:<13} {'':>10}  left on {CLOUDS[name].cloud} by runs: {text}")


def _ask(names: list[str]) -> None:
    again = " ".join(["./doit clean", *names, "--yes"])
    if not sys.stdin or not sys.stdin.isatty():
        raise ConfigError("cannot ask: stdin is not a terminal", hint=again)
    print("remove these? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was removed", hint=again)
