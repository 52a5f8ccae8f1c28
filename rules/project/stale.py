"""When a lockfile is stale, because it differs from aicert.toml or from the bytes, and the message
for that.

This only compares; `rules.project.lock` measures.
"""

from pathlib import Path

from aicert.errors import LockError
from aicert.formats.lockfile import LockedInput, Lockfile
from rules.project.config import Input, Run
from rules.project.locked import DIRECTORY, Lock, listing_of


def is_same(item: Input, locked: LockedInput) -> bool:
    """Whether an input's lock matches aicert.toml."""
    asked, written = (
        (one.source, one.only, one.except_, one.allow_pickle, one.allow_remote_code, one.signed_by)
        for one in (item, locked)
    )
    return asked == written


def check_configured(run: Run, locked: Lockfile) -> None:
    """Compare the two files, before anything is measured."""
    if run.trainer != locked.trainer:
        raise stale(run, f"trainer\n  locked      {locked.trainer}\n  aicert.toml {run.trainer}")
    if run.ranks != locked.ranks:
        raise stale(run, f"ranks\n  locked      {locked.ranks}\n  aicert.toml {run.ranks}")
    if run.audits != locked.audits:
        raise stale(
            run,
            f"audits\n  locked      {_names(locked.audits)}\n  aicert.toml {_names(run.audits)}",
        )
    old = {item.name: item for item in locked.inputs}
    for item in run.inputs:
        if item.name not in old:
            raise stale(run, f"input {item.name} is in aicert.toml but not locked")
        if not is_same(item, old[item.name]):
            raise stale(
                run,
                f"input {item.name}\n  locked      {_words(old[item.name])}\n  aicert.toml "
                f"{item.source}{_choice_words(item)}",
            )


def stale(run: Run, why: str) -> LockError:
    """Return the error for a stale lockfile, with the command that updates it."""
    return LockError(
        f"lockfile of run {run.name} is stale: {why}",
        hint=f"./doit lock {run.name} && git diff {DIRECTORY}/",
    )


def check_listings(root: Path, lock: Lock) -> None:
    """Check that the listings next to a lockfile match it."""
    for name, data in lock.listings.items():
        path = listing_of(root, lock.lockfile.run, name)
        if not path.is_file() or path.read_bytes() != data:
            raise LockError(
                f"{path.relative_to(root)} is missing or does not match its lockfile",
                hint=f"./doit lock {lock.lockfile.run}",
            )


def difference(locked: Lockfile, fresh: Lockfile) -> str:
    """Return the first difference, in words."""
    if locked.run != fresh.run or locked.trainer != fresh.trainer:
        return f"it is for run {locked.run}, trainer {locked.trainer}"
    if locked.outputs != fresh.outputs:
        return (
            f"outputs\n  locked  {', '.join(locked.outputs)}\n  found   {', '.join(fresh.outputs)}"
        )
    if locked.ranks != fresh.ranks:
        return f"ranks\n  locked  {locked.ranks}\n  found   {fresh.ranks}"
    if locked.audits != fresh.audits:
        return f"audits\n  locked  {_names(locked.audits)}\n  found   {_names(fresh.audits)}"
    old = {item.name: item for item in locked.inputs}
    new = {item.name: item for item in fresh.inputs}
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            return f"input {name} is locked but no longer in aicert.toml"
        if name not in old:
            return f"input {name} is in aicert.toml but not locked"
        if old[name] != new[name]:
            return f"input {name}\n  locked  {_words(old[name])}\n  found   {_words(new[name])}"
    return "`./doit lock` would write something else"


def _names(audits: tuple[str, ...]) -> str:
    return ", ".join(audits) or "none"


def _words(item: LockedInput) -> str:
    return f"{item.source}  {item.size} bytes  {item.digest}{_choice_words(item)}"


def _choice_words(item: Input | LockedInput) -> str:
    words = f", only {' '.join(item.only)}" if item.only else ""
    words += f", except {' '.join(item.except_)}" if item.except_ else ""
    words += ", allow-pickle" if item.allow_pickle else ""
    words += ", allow-remote-code" if item.allow_remote_code else ""
    return words + (f", signed by {item.signed_by}" if item.signed_by else "")
