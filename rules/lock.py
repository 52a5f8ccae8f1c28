"""`lockfiles/`: resolve a run to its lockfile, write it, and tell when it is stale."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aicert import lockfile as form
from aicert.errors import AicertError, LockError
from aicert.lockfile import LockedInput, Lockfile
from rules import sources
from rules.config import TRAINER, Run

DIRECTORY = "lockfiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A run's lockfile and where its inputs lie on this host."""

    lockfile: Lockfile
    data: bytes
    paths: Mapping[str, Path]
    listings: Mapping[str, bytes]


def path_of(root: Path, run: str) -> Path:
    """Where the lockfile of a run stands."""
    return root / DIRECTORY / f"{run}.lock.toml"


def resolve(root: Path, run: Run) -> Lock:
    """Measure every input of `run`. Raises LockError naming the input."""
    inputs: list[LockedInput] = []
    paths: dict[str, Path] = {}
    listings: dict[str, bytes] = {}
    for item in run.inputs:
        try:
            found = sources.resolve(root, item.source)
        except AicertError as error:
            raise LockError(f"input {item.name}: {error.message}", hint=error.hint) from None
        paths[item.name] = found.path
        if found.listing is not None:
            listings[item.name] = found.listing
        inputs.append(
            LockedInput(
                name=item.name,
                source=item.source,
                uri=found.uri,
                size=found.size,
                digest=found.digest,
                allow_pickle=item.allow_pickle,
            )
        )
    lockfile = Lockfile(
        run=run.name, trainer=TRAINER, outputs=tuple(sorted(run.outputs)), inputs=tuple(inputs)
    )
    return Lock(lockfile=lockfile, data=form.emit(lockfile), paths=paths, listings=listings)


def write(root: Path, lock: Lock) -> bool:
    """Write lockfile and listings, each beside and then renamed; whether anything changed."""
    run = lock.lockfile.run
    folder = root / DIRECTORY / run
    wanted = {folder / f"{name}.sha256": data for name, data in lock.listings.items()}
    wanted[path_of(root, run)] = lock.data
    changed = False
    for path, data in wanted.items():
        if not path.is_file() or path.read_bytes() != data:
            replace(path, data)
            changed = True
    names = {item.name for item in lock.lockfile.inputs}
    for stray in list(folder.iterdir()) if folder.is_dir() else ():
        # A `.dvc` file may stand for an older digest until the bytes are tracked again.
        tracked = stray.suffix == ".dvc" and stray.stem in names
        if stray.suffix in (".sha256", ".dvc") and stray not in wanted and not tracked:
            stray.unlink()
            changed = True
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)
    return changed


def replace(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or absent: beside, flushed, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(root: Path, run: str) -> bytes:
    """The bytes of a run's lockfile. Raises LockError where there is none."""
    path = path_of(root, run)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LockError(f"run {run} has no lockfile", hint=f"./doit lock {run}") from None
    except OSError as error:
        raise LockError(f"cannot read {path}: {error.strerror}") from None


def current(root: Path, run: Run) -> Lock:
    """The lock of `run`, if what is committed is canonical and equals the bytes at hand.

    Raises LockError that says which input differs, expected and found.
    """
    data = read(root, run.name)
    locked = form.parse(data)
    fresh = resolve(root, run)
    if data == fresh.data:
        _check_listings(root, fresh)
        return fresh
    raise LockError(
        f"lockfile of run {run.name} is stale: {difference(locked, fresh.lockfile)}",
        hint=f"./doit lock {run.name}, then review `git diff {DIRECTORY}/`",
    )


def _check_listings(root: Path, lock: Lock) -> None:
    for name, data in lock.listings.items():
        path = root / DIRECTORY / lock.lockfile.run / f"{name}.sha256"
        if not path.is_file() or path.read_bytes() != data:
            raise LockError(
                f"{path.relative_to(root)} is missing or differs from the lockfile beside it",
                hint=f"./doit lock {lock.lockfile.run}",
            )


def difference(locked: Lockfile, fresh: Lockfile) -> str:
    """What differs first, in words."""
    if locked.run != fresh.run or locked.trainer != fresh.trainer:
        return f"it is of run {locked.run}, trainer {locked.trainer}"
    if locked.outputs != fresh.outputs:
        return (
            f"outputs\n  locked  {', '.join(locked.outputs)}\n  found   {', '.join(fresh.outputs)}"
        )
    old = {item.name: item for item in locked.inputs}
    new = {item.name: item for item in fresh.inputs}
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            return f"input {name} is locked and no longer in aicert.toml"
        if name not in old:
            return f"input {name} is in aicert.toml and not locked"
        if old[name] != new[name]:
            return f"input {name}\n  locked  {_words(old[name])}\n  found   {_words(new[name])}"
    return "it is not what `doit lock` writes"


def _words(item: LockedInput) -> str:
    allowed = ", allow-pickle" if item.allow_pickle else ""
    return f"{item.source}  {item.size} bytes  {item.digest}{allowed}"
