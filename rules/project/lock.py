"""Resolve a run to its lockfile, write it, and check whether it is stale
(docs/spec/lockfile.md).
"""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.errors import LockError
from aicert.formats import lockfile as form
from aicert.formats.digest import of_bytes
from aicert.formats.listing import EMPTY_FILE_HEX, parse_listing
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.sources.choice import suffix
from rules.host import progress
from rules.host.work import write_whole
from rules.project import sources, stale
from rules.project.config import Input, Run
from rules.project.input_signatures import check_signers
from rules.project.locked import DIRECTORY, Lock, listing_of, parsed, path_of, read
from rules.project.sources import Resolved

if TYPE_CHECKING:
    from aicert.sources.transfer import Transfer

# In these formats no valid file has 0 bytes; in others one may (`__init__.py`, an empty list).
NEVER_EMPTY = frozenset((".arrow", ".gguf", ".json", ".npy", ".parquet", ".safetensors"))


def resolve(
    root: Path,
    run: Run,
    *,
    keep: Mapping[str, LockedInput] | None = None,
    transfer: "Transfer | None" = None,
) -> Lock:
    """Resolve every input of `run`: measure local ones, ask remote ones at their source.

    A remote input that is in `keep` is taken from there, with the listing next to the lockfile, and
    not asked. Raises LockError or ToolError naming the input.
    """
    keep = keep or {}
    inputs: list[LockedInput] = []
    resolved_inputs: dict[str, Resolved] = {}
    for item in run.inputs:
        if item.name in keep and not sources.is_local(item.source):
            locked = keep[item.name]
            resolved_inputs[item.name] = _kept(root, run.name, locked)
        else:
            resolved_inputs[item.name] = sources.naming(
                item.name, partial(_filled, root, item, transfer)
            )
            locked = _locked(item, resolved_inputs[item.name])
        inputs.append(locked)
    lockfile = Lockfile(
        run=run.name,
        trainer=run.trainer,
        outputs=tuple(sorted(run.outputs)),
        inputs=tuple(inputs),
        ranks=run.ranks,
        audits=run.audits,
    )
    return Lock(
        lockfile=lockfile,
        data=form.emit(lockfile),
        paths={name: resolved.path for name, resolved in resolved_inputs.items()},
        listings={name: r.listing for name, r in resolved_inputs.items() if r.listing is not None},
        parts={name: r.parts for name, r in resolved_inputs.items() if r.parts is not None},
    )


def _filled(root: Path, item: Input, transfer: "Transfer | None") -> Resolved:
    resolved = _fresh(root, item, transfer)
    _refuse_empty(resolved)
    return resolved


def _fresh(root: Path, item: Input, transfer: "Transfer | None") -> Resolved:
    if sources.is_local(item.source):
        with progress.task(f"hashing {item.source}", unit="B") as bar:
            return sources.measure(root, item.source, item.choice, bar.advance)
    if transfer is not None:
        return sources.ask(root, item.source, item.choice, transfer)
    from aicert.sources.transfer import Transfer

    with progress.task(f"asking {item.source}", unit="B") as bar:
        with Transfer(sources.store(root), on_bytes=bar.advance) as own:
            return sources.ask(root, item.source, item.choice, own)


def _refuse_empty(resolved: Resolved) -> None:
    """Refuse empty files: an interrupted upload leaves such files, and a loader may take one for
    "no data".
    """
    hint = "check its source: the upload may be incomplete"
    if not resolved.size:
        raise LockError(f"{resolved.uri} is empty: 0 bytes", hint=hint)
    if resolved.listing is not None and EMPTY_FILE_HEX.encode() in resolved.listing:
        for path, digest in parse_listing(resolved.listing).items():
            if digest == EMPTY_FILE_HEX and suffix(path) in NEVER_EMPTY:
                raise LockError(
                    f"{path!a} is empty: 0 bytes", hint=f"{hint}; or exclude it with `except`"
                )


def _locked(item: Input, resolved: Resolved) -> LockedInput:
    return LockedInput(
        name=item.name,
        source=item.source,
        uri=resolved.uri,
        size=resolved.size,
        digest=resolved.digest,
        only=item.only,
        except_=item.except_,
        allow_pickle=item.allow_pickle,
        allow_remote_code=item.allow_remote_code,
        signed_by=item.signed_by,
    )


def _kept(root: Path, run: str, locked: LockedInput) -> Resolved:
    """Return a remote input as locked. Its listing, if it has one, must match its digest."""
    data = None
    if locked.digest.kind == "dirHash":
        path = listing_of(root, run, locked.name)
        data = path.read_bytes() if path.is_file() else None
        if data is None or of_bytes(data).hex != locked.digest.hex:
            raise LockError(
                f"{path.relative_to(root)} is missing or does not match its lockfile",
                hint=f"git checkout {path.relative_to(root)}, or ./doit lock {run}",
            )
    return Resolved(
        uri=locked.uri,
        path=sources.place(sources.store(root), locked.digest),
        size=locked.size,
        digest=locked.digest,
        listing=data,
    )


def pinned(root: Path, run: Run) -> dict[str, LockedInput]:
    """Return the remote inputs whose lock matches aicert.toml: `./doit lock` leaves them alone.

    Only a new source, or `./doit update`, moves a pin. An unreadable lockfile pins nothing.
    """
    try:
        locked = {item.name: item for item in parsed(read(root, run.name)).inputs}
    except LockError:
        return {}
    keep: dict[str, LockedInput] = {}
    for item in run.inputs:
        old = locked.get(item.name)
        if old is None or sources.is_local(item.source) or not stale.is_same(item, old):
            continue
        try:
            _kept(root, run.name, old)
        except LockError:
            continue
        keep[item.name] = old
    return keep


def write(root: Path, lock: Lock) -> bool:
    """Write lockfile and listings, each to a temporary file that is then renamed. Returns whether
    anything changed.

    Required signatures on inputs are checked before anything is written.
    """
    check_signers(root, lock)
    run = lock.lockfile.run
    folder = root / DIRECTORY / run
    wanted = {folder / f"{name}.sha256": data for name, data in lock.listings.items()}
    wanted[path_of(root, run)] = lock.data
    changed = False
    for path, data in wanted.items():
        if not path.is_file() or path.read_bytes() != data:
            write_whole(path, data)
            changed = True
    names = {item.name for item in lock.lockfile.inputs}
    for stray in list(folder.iterdir()) if folder.is_dir() else ():
        # A `.dvc` file may still be for an older digest until the bytes are tracked again.
        tracked = stray.suffix == ".dvc" and stray.stem in names
        if stray.suffix in (".sha256", ".dvc") and stray not in wanted and not tracked:
            stray.unlink()
            changed = True
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)
    return changed


def current(root: Path, run: Run) -> Lock:
    """Return the lock of `run`, if the committed one is canonical and matches the bytes here.

    Offline: a remote input is current if its lock matches aicert.toml. Raises LockError that names
    the differing input, expected and found.
    """
    data = read(root, run.name)
    try:
        locked = parsed(data)
    except LockError as error:
        path = path_of(root, run.name).relative_to(root)
        raise LockError(f"{path}: {error.message}", hint=error.hint) from None
    stale.check_configured(run, locked)
    fresh = resolve(root, run, keep={item.name: item for item in locked.inputs})
    if data == fresh.data:
        stale.check_listings(root, fresh)
        return fresh
    raise stale.stale(run, stale.difference(locked, fresh.lockfile))
