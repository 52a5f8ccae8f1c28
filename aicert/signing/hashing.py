"""Hash a model as a signature describes it: whole files or parts, SHA-256 or another hash.

SHA-256 of whole files is the work of `aicert.files.tree`; this adds other hashes and parts of
files. Links are not followed, except, if the caller asks for it, links to files of the same tree.
Memory use does not grow with the size of files.
"""

import hashlib
import importlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.files.harmless import blob_of, is_lost_and_found, open_in
from aicert.files.tree import BLOCK, Refused, open_file, read_file, read_some, read_tree
from aicert.formats.digest import FileFact
from aicert.formats.paths import check_path, check_paths
from aicert.model_signature.reader import SINGLE, Manifest, Piece

OnBytes = Callable[[int], None]
Skip = Callable[[str], bool]


class Hasher(Protocol):
    """The interface of a hash object, as in hashlib."""

    def update(self, data: memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest so far."""


def ignore(names: Iterable[str]) -> Skip:
    """Return a `skip` for read_tree that leaves out these paths and everything below them."""
    exact = frozenset(names)
    return lambda path: path.rstrip("/") in exact


def plain_paths(paths: Iterable[str], *, hint: str | None = None) -> list[str]:
    """Return the paths that `--ignore` names, sorted and without a slash at the end.

    Raises ConfigError, with `hint`, if one is not a plain relative path.
    """
    plain = sorted({path.rstrip("/") for path in paths})
    for path in plain:
        try:
            check_path(path)
        except EvidenceError as error:
            raise ConfigError(f"--ignore: {error.message}", hint=hint) from None
    return plain


def left_out(root: Path, names: Iterable[str]) -> list[str]:
    """Return those of the ignored paths that exist."""
    return sorted(name for name in set(names) if os.path.lexists(root / name))


def whole_files(
    target: Path,
    ignored: Collection[str],
    on_bytes: OnBytes | None = None,
    refused: Refused | None = None,
    *,
    links: bool = False,
) -> dict[str, FileFact]:
    """Hash a directory's files with SHA-256; a single file has the path `.`.

    `refused` is called for whatever is not a file or has no unambiguous name, and the links in a
    snapshot of the hub's cache are read as the files that they stand for. Without `refused`, the
    first such thing is an error. `links`: read links to files of the same directory as those files.
    """
    if not target.is_dir():
        return {SINGLE: read_file(target, on_bytes=on_bytes)}
    skip = _skip(target, ignored)
    blobs: dict[str, Path] = {}
    on_refusal = _on_refusal(target, blobs, refused, links)
    files = read_tree(target, skip=skip, on_bytes=on_bytes, refused=on_refusal)
    for path, blob in blobs.items():
        files[path] = read_file(blob, on_bytes=on_bytes)
    check_paths(files if blobs else ())
    return files


def names(
    target: Path,
    ignored: Collection[str],
    refused: Refused | None = None,
    *,
    links: bool = False,
) -> dict[str, int]:
    """Return path → size of a directory's files without reading them.

    For signatures that do not use SHA-256 of whole files.
    """
    if not target.is_dir():
        return {SINGLE: target.lstat().st_size}
    unread = "0" * 64
    blobs: dict[str, Path] = {}
    on_refusal = _on_refusal(target, blobs, refused, links)
    skip = _skip(target, ignored)
    tree = read_tree(target, skip=skip, known=lambda *_: unread, refused=on_refusal)
    sizes = {path: fact.size for path, fact in tree.items()}
    return sizes | {path: blob.lstat().st_size for path, blob in blobs.items() if blob.exists()}


def _skip(target: Path, ignored: Collection[str]) -> Skip:
    asked = ignore(ignored)
    return lambda path: asked(path) or is_lost_and_found(target, path)


def inside(target: Path, path: str) -> Path | None:
    """Return the regular file that the link at `path` leads to, if it is in the same directory."""
    place = target / path
    real, root = Path(os.path.realpath(place)), Path(os.path.realpath(target))
    if not place.is_symlink() or not real.is_relative_to(root):
        return None
    return real if real.is_file() else None


def _behind(target: Path, path: str, *, links: bool, cached: bool = True) -> Path | None:
    """Return the file to read for the link at `path`, or None.

    `cached`: it may be a blob, as in a snapshot of the hub's cache. `links`: it may be a file of
    the same directory.
    """
    blob = blob_of(target, path) if cached else None
    return inside(target, path) if blob is None and links else blob


def _on_refusal(
    target: Path, blobs: dict[str, Path], refused: Refused | None, links: bool
) -> Refused | None:
    if refused is None and not links:
        return None

    def on_refusal(path: str, error: EvidenceError) -> None:
        real = _behind(target, path, cached=refused is not None, links=links)
        if real is not None:
            blobs[path] = real
        elif refused is None:
            raise error
        else:
            refused(path, error)

    return on_refusal


def compare(
    target: Path,
    manifest: Manifest,
    paths: Collection[str],
    on_bytes: OnBytes | None = None,
    *,
    links: bool = False,
) -> dict[str, bool]:
    """Return, for each path, whether the file has the digests that the manifest gives."""
    if manifest.algorithm == "sha256" and manifest.parts is None and not manifest.is_single:
        behind = {path: _behind(target, path, links=links) for path in paths}
        plain = [path for path, real in behind.items() if real is None]
        facts = read_some(target, plain, on_bytes=on_bytes)
        for path, real in behind.items():
            if real is not None:
                facts[path] = read_file(real, on_bytes=on_bytes)
        return {path: fact.sha256 == manifest.files[path] for path, fact in facts.items()}
    make = hasher(manifest.algorithm)
    return {path: _same(target, path, manifest, make, on_bytes, links) for path in paths}


def pieces_of(
    target: Path,
    ignored: Collection[str],
    algorithm: str,
    size: int | None,
    on_bytes: OnBytes | None = None,
    *,
    links: bool = False,
) -> dict[str, tuple[Piece, ...]]:
    """Return path → digests of a directory's files, in parts of `size` bytes or whole.

    An empty file has no parts.
    """
    make = hasher(algorithm)
    pieces: dict[str, tuple[Piece, ...]] = {}
    for path in names(target, ignored, links=links):
        with _opened(target, path, links) as fd:
            whole = os.fstat(fd).st_size
            step = size or max(whole, 1)
            starts = range(0, whole if size else max(whole, 1), step)
            spans = [(start, min(start + step, whole)) for start in starts]
            pieces[path] = tuple(
                Piece(digest=_digest(fd, span, make(), on_bytes), start=span[0], end=span[1])
                for span in spans
            )
            _check_size(fd, whole, path)
    return pieces


def hasher(algorithm: str) -> Callable[[], Hasher]:
    """Return the constructor of a hash; ToolError if its package is not installed."""
    if algorithm == "sha256":
        return hashlib.sha256
    if algorithm == "blake2b":
        return hashlib.blake2b
    try:
        blake3 = importlib.import_module("blake3").blake3
    except ModuleNotFoundError:
        raise ToolError(
            "the signature uses BLAKE3, which needs an extra package",
            hint="in a checkout of this project: pip install '.[blake3]'",
        ) from None
    hasher: Callable[[], Hasher] = blake3
    return hasher


@contextmanager
def _opened(target: Path, path: str, links: bool) -> Iterator[int]:
    """Open a regular file for reading; errors while it is read name the path."""
    real = inside(target, path) if links and path != SINGLE else None
    if path == SINGLE:
        fd = open_file(target.parent, target.name)
    elif real is not None:
        fd = open_file(real.parent, real.name)
    else:
        check_path(path)
        fd = open_in(target, path)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise EvidenceError(f"{path!a} is not a regular file")
        yield fd
    except OSError as error:
        raise EvidenceError(f"cannot read {path!a}: {error.strerror}") from None
    finally:
        os.close(fd)


def _check_size(fd: int, size: int, path: str) -> None:
    if os.fstat(fd).st_size != size:
        raise EvidenceError(f"file changed while it was read: {path!a}")


def _same(
    target: Path,
    path: str,
    manifest: Manifest,
    make: Callable[[], Hasher],
    on_bytes: OnBytes | None,
    links: bool,
) -> bool:
    with _opened(target, path, links) as fd:
        size = os.fstat(fd).st_size
        pieces: tuple[Piece, ...] = (Piece(digest=manifest.files[path], start=0, end=size),)
        if manifest.parts is not None:
            pieces = manifest.parts[path]
        if pieces[-1].end != size:
            return False
        spans = (((piece.start, piece.end), piece.digest) for piece in pieces)
        same = all(_digest(fd, span, make(), on_bytes) == digest for span, digest in spans)
        _check_size(fd, size, path)
        return same


def _digest(fd: int, span: tuple[int, int], state: Hasher, on_bytes: OnBytes | None) -> str:
    at, end = span
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    while at < end:
        count = os.preadv(fd, [view[: min(BLOCK, end - at)]], at)
        if not count:
            break
        state.update(view[:count])
        at += count
        if on_bytes is not None:
            on_bytes(count)
    return state.hexdigest()
