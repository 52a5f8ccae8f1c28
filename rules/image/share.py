"""Share the images' locked packages and wheels by the project's DVC remote (docs/spec/tracking.md).

`./doit dvc push` tracks them if all of a lock's files are here: a folder of files by SHA-256, with
a `.dvc` file next to the lock. The image lock says what the bytes must be. `./doit dvc pull`
fetches them, and so does `./doit image` if a remote is configured and the store lacks one. A file
is identified by its own SHA-256, whatever DVC calls it.
"""

import functools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from aicert.errors import AicertError
from aicert.formats.image_lock import ImageLock, Package
from aicert.formats.listing import dir_digest, listing, parse_listing
from rules.dvc import tracking
from rules.dvc.program import exclusive, object_at, objects_of, own_objects, run_dvc
from rules.dvc.tracking import Tracked
from rules.host import progress
from rules.image.debian import Store, absent
from rules.image.place import LOCKS, Place, place, read_lock

FOLDER = Path(".aicert") / "packages"
_REMOTE = re.compile(r"^\s*\[\s*['\"]?remote\b", re.MULTILINE)


def tracked(root: Path) -> Iterator[Tracked]:
    """Yield the image locks whose packages are tracked, as they are now or at an older lock."""
    return (item for item in _of_locks(root) if item.file.is_file())


def _of_locks(root: Path) -> Iterator[Tracked]:
    home = root.resolve()
    for path in LOCKS:
        lock = read_lock(root, path) if tracking.is_on(root) else None
        folder = home / FOLDER / path.name.removesuffix(".lock.toml")
        # git and DVC refuse paths behind a link.
        if lock is not None and not (home / FOLDER.parent).is_symlink():
            yield Tracked(
                name=f"packages of {path}",
                path=folder,
                file=root / path.with_name(f"{folder.name}.dvc"),
                digest=dir_digest(_wanted(lock)),
                listing=_listing(folder, lock),
            )


def _wanted(lock: ImageLock) -> dict[str, str]:
    """Return `{name: SHA-256}` of each file; a file is named by its SHA-256."""
    return {package.digest.hex: package.digest.hex for package in lock.packages}


def _listing(folder: Path, lock: ImageLock) -> Path:
    """Write the lock in a format that `sha256sum -c` reads, next to the folder; return its path."""
    path, data = folder.with_suffix(".sha256"), listing(_wanted(lock))
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return path


def staged(root: Path) -> list[Tracked]:
    """Stage what can be handed to DVC, and return it: locks whose files are all here."""
    store = place(root).store
    items = []
    for item in _of_locks(root):
        names = _names(item)
        if all((item.path / name).exists() or _has(store, name) for name in names):
            _stage(store, item, names)
            items.append(item)
    return items


def _names(item: Tracked) -> list[str]:
    return list(parse_listing(item.listing.read_bytes())) if item.listing is not None else []


def _has(store: Store, name: str) -> bool:
    return any((store.folder / name).glob("*"))


def _stage(store: Store, item: Tracked, names: Sequence[str]) -> None:
    item.path.mkdir(parents=True, exist_ok=True)
    for path in item.path.iterdir():
        if path.name not in names:
            path.unlink()
    for name in names:
        if not (item.path / name).exists():
            _link(next((store.folder / name).glob("*")), item.path / name)


def _link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy if the paths are on different disks.

    Symbolic links are followed, because DVC may make them.
    """
    try:
        os.link(source, target, follow_symlinks=True)
    except OSError:
        shutil.copyfile(source, target)


def bring(where: Place, packages: Sequence[Package]) -> str:
    """Copy packages that DVC has into the store.

    Returns in a few words what was asked, for the message if some are still missing.
    """
    wanted = absent(where.store, packages)
    items = list(tracked(where.root)) if wanted else []
    if not items:
        return "DVC's remote (no packages are tracked)"
    for item in items:
        _take(where, item, own_objects(where.root), wanted)
    if not absent(where.store, wanted):
        return "DVC's cache"
    if not _has_remote(where.root):
        return "DVC's cache (no remote is configured)"
    reasons = [_fetch(where.root, item.file, item.name) for item in items]
    for item in items:
        # Take files even after a failure, because it may have fetched some.
        _take(where, item, objects_of(where.root), wanted)
    return "DVC's remote" + "".join(reasons)


@functools.cache
def _fetch(root: Path, file: Path, name: str) -> str:
    """Fetch from DVC's remote, once per process; return "" or the reason why it failed.

    A file that DVC does not have now will not be there a minute later.
    """
    try:
        with exclusive(root), progress.task(f"fetching {name} from DVC's remote"):
            run_dvc(root, ["fetch", "--quiet", str(file.relative_to(root))])
    except AicertError as error:
        return f", which says {error.message.splitlines()[-1][:200]!a}"
    return ""


def _has_remote(root: Path) -> bool:
    paths = (root / ".dvc" / name for name in ("config", "config.local"))
    texts = (path.read_text("utf-8", "replace") for path in paths if path.is_file())
    return any(map(_REMOTE.search, texts))


def _take(where: Place, item: Tracked, objects: Path, wanted: Sequence[Package]) -> None:
    """Take files from the folder that a pull fills, and from DVC's cache; the store checks the
    bytes.
    """
    recorded = tracking.recorded_objects(objects, item)
    for package in absent(where.store, wanted):
        name = package.digest.hex
        places = [item.path / name]
        if name in recorded:
            places.append(object_at(objects, recorded[name]))
        for path in places:
            if path.is_file() and where.store.find(package.digest) is None:
                folder = where.store.folder / name
                folder.mkdir(parents=True, exist_ok=True)
                _link(path, folder / "package")
