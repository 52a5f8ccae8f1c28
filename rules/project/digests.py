"""The checkout's cache of digests by file status; aicert.cache.digest_cache says what it is."""

from collections.abc import Callable
from pathlib import Path

from aicert.cache import digest_cache
from aicert.formats.digest import FileFact

CACHE = Path(".aicert/digests.sqlite")


def cached_tree(
    path: Path, *, on_bytes: Callable[[int], None] | None = None
) -> dict[str, FileFact]:
    """`aicert.files.tree.read_tree`, reading only files whose status is new."""
    return digest_cache.cached_tree(path, cache=CACHE, on_bytes=on_bytes)


def cached_listing(
    path: Path, *, on_bytes: Callable[[int], None] | None = None
) -> digest_cache.Listed:
    """The size and the listing of a directory, reading only files whose status is new."""
    return digest_cache.cached_listing(path, cache=CACHE, on_bytes=on_bytes)


def cached_file(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> FileFact:
    """`aicert.files.tree.read_file`, reading only when the file's status is new."""
    return digest_cache.cached_file(path, cache=CACHE, on_bytes=on_bytes)
