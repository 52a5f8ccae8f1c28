"""Write one run's lockfile again, and print what a reviewer has to approve."""

from collections.abc import Mapping
from pathlib import Path

from aicert.formats import lockfile as form
from aicert.formats.lockfile import LockedInput
from rules.project import config, config_check, lock, locked, sources
from rules.project.locked import Lock


def write_lock(root: Path, run: config.Run) -> None:
    """Resolve and write one run's lockfile, and print what a reviewer has to approve. A config that
    no run could use is refused first, so that nobody reviews it.
    """
    sources.store(root).sweep()
    fresh = checked(root, run, lock.pinned(root, run))
    changed = lock.write(root, fresh)
    show_lock(root, run.name, fresh.data, "wrote" if changed else "unchanged")


def checked(root: Path, run: config.Run, keep: Mapping[str, LockedInput]) -> Lock:
    """Resolve a run, with these pins, and refuse a config that no run could use."""
    fresh = lock.resolve(root, run, keep=keep)
    effective = config_check.check_config(root, fresh, machine=run.machine)
    if effective is not None:
        config_check.check_values(root, fresh, effective)
    return fresh


def show_lock(root: Path, run: str, data: bytes, word: str) -> None:
    """Print a lockfile's identity and PCR 14 on stdout."""
    path = locked.path_of(root, run).relative_to(root)
    print(f"{word:<10} {path}  {form.identity(data)}")
    print(f"{'':<10} PCR 14  sha256:{form.pcr14(data).hex()}", flush=True)
