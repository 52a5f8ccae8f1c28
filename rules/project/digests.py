"""The checkout's cache of digests by file status, as described in aicert.cache.digest_cache."""

from collections.abc import Callable
from pathlib import Path

from aicert.cache import digest_cache
from aicert.cache.tree_status import look
from aicert.formats.digest import FileFact

CACHE = Path(".aicert/digests.sqlite")
# Trees known to this process: the stamp of their files, and their digests. The cache ignores files
# as young as those of a run that has just ended.
_handed_on: dict[Path, tuple[str, dict[str, FileFact]]] = {}


def hand_on(path: Path, files: dict[str, FileFact]) -> None:
    """Use these digests for the tree at `path`, until one of its files changes."""
    seen = look(path)
    if seen is not None:
        _handed_on[path.absolute()] = (seen.stamp, files)


def cached_tree(
    path: Path, *, on_bytes: Callable[[int], None] | None = None
) -> dict[str, FileFact]:
    """Do the same as `aicert.files.tree.read_tree`, but read only files with a new status."""
    stamp, files = _handed_on.get(path.absolute(), ("", {}))
    seen = look(path) if files else None
    if seen is not None and seen.stamp == stamp:
        return dict(files)
    return digest_cache.cached_tree(path, cache=CACHE, on_bytes=on_bytes)


def cached_listing(
    path: Path, *, on_bytes: Callable[[int], None] | None = None
) -> digest_cache.Listed:
    """Return the size and the listing of a directory, reading only files with a new status."""
    return digest_cache.cached_listing(path, cache=CACHE, on_bytes=on_bytes)


def cached_file(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> FileFact:
    """Do the same as `aicert.files.tree.read_file`, but read only if the file's status is new."""
    return digest_cache.cached_file(path, cache=CACHE, on_bytes=on_bytes)
