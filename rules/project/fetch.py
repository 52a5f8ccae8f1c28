"""Fetch a lockfile's inputs: only what is missing, by digest, in parallel, resumable.

When `fetch_inputs` returns, every path of the lock holds the locked bytes (according to the digest
cache if nothing changed). Wrong bytes in the store are removed and fetched again. The machine
hashes everything again and decides.
"""

from collections.abc import Mapping
from pathlib import Path

from aicert.errors import AicertError, LockError, ToolError
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.listing import parse_listing
from aicert.formats.lockfile import LockedInput
from aicert.sources.store import Store
from rules.host import progress, room
from rules.host.work import remove
from rules.project import sources
from rules.project.digests import cached_file, cached_listing
from rules.project.locked import Lock

# The name for the only file of a single-file input (aicert.sources.remote.FILE).
_FILE = ""


def fetch_inputs(root: Path, lock: Lock) -> list[str]:
    """Fetch the missing parts of every input. Returns the names of inputs that were fetched."""
    where = sources.store(root)
    where.sweep()
    fetched: list[str] = []
    for item in lock.lockfile.inputs:
        if sources.is_local(item.source):
            if item.name in lock.parts:
                _assemble_here(where, item, lock.parts[item.name])
            continue
        try:
            if _bring(where, item, lock.listings.get(item.name)):
                fetched.append(item.name)
        except AicertError as error:
            kind = ToolError if isinstance(error, ToolError) else LockError
            raise kind(f"input {item.name}: {error.message}", hint=error.hint) from None
    return fetched


def _assemble_here(where: Store, item: LockedInput, parts: Mapping[str, Path]) -> None:
    if not _is_whole(where, item):
        remove(where.tree(item.digest.hex))
        where.assemble(item.digest.hex, parts)


def _bring(where: Store, item: LockedInput, listing: bytes | None) -> bool:
    if _is_whole(where, item):
        return False
    wanted = {_FILE: item.digest.hex} if listing is None else parse_listing(listing)
    missing = _missing(where, wanted)
    if missing:
        _fetch(where, item, wanted, missing)
    if item.digest.kind == "dirHash":
        tree = where.tree(item.digest.hex)
        remove(tree)
        where.assemble(tree.name, {path: where.file(hex_) for path, hex_ in wanted.items()})
    return bool(missing)


def _fetch(
    where: Store, item: LockedInput, wanted: Mapping[str, str], missing: Mapping[str, str]
) -> None:
    from aicert.sources import remote
    from aicert.sources.transfer import Transfer

    here = {hex_ for path, hex_ in wanted.items() if path not in missing}
    total = max(0, item.size - sum(where.file(hex_).stat().st_size for hex_ in here))
    where.root.mkdir(parents=True, exist_ok=True)
    needed = total - sum(map(where.begun, missing.values()))
    room.require(where.root, needed, "it")
    with progress.task(f"fetching {item.name}", total=total, unit="B") as bar:
        with Transfer(where, on_bytes=bar.advance) as transfer:
            remote.fetch(item.uri, missing, transfer)


def _missing(where: Store, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return what to fetch, one path per digest. Wrong bytes in the store are removed."""
    missing: dict[str, str] = {}
    asked: set[str] = set()
    for path, hex_ in wanted.items():
        if hex_ in asked:
            continue
        asked.add(hex_)
        if not where.has(hex_):
            missing[path] = hex_
        elif cached_file(where.file(hex_)).sha256 != hex_:
            where.remove(hex_)
            missing[path] = hex_
    return missing


def _is_whole(where: Store, item: LockedInput) -> bool:
    """Whether the input's path holds the locked bytes."""
    place = sources.place(where, item.digest)
    if not place.exists():
        return False
    try:
        if item.digest.kind == "sha256":
            fact = cached_file(place)
            return Digest("sha256", fact.sha256) == item.digest
        return of_bytes(cached_listing(place).listing).hex == item.digest.hex
    except AicertError:
        return False
