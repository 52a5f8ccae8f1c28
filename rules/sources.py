"""Where an input comes from, and the bytes it resolves to on this host.

One scheme is built: `path:`, a file or directory of the repository. A further scheme is one more
entry in `SCHEMES`; the lockfile's form does not change with it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from aicert.digest import Digest, FileFact, dir_digest, listing
from aicert.errors import ConfigError, LockError
from rules.digests import cached_file, cached_tree

SCHEMES = ("path:",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """An input's bytes: `listing` is the sha256sum listing of a directory, None for a file."""

    uri: str
    path: Path
    size: int
    digest: Digest
    listing: bytes | None


def check(source: str) -> None:
    """Refuse a source whose form alone is wrong. Raises ConfigError."""
    if not source.startswith(SCHEMES):
        raise ConfigError(
            f"source {source[:80]!r} has a scheme that this version does not have",
            hint=f"schemes: {', '.join(SCHEMES)}",
        )
    path = source.removeprefix("path:")
    printable = path.isascii() and path.isprintable() and not set(path) & set('"\\')
    if not path or not printable or path != os.path.normpath(path) or path in (".", ".."):
        raise ConfigError(f"source {source[:80]!a} is not a plain relative path in printable ASCII")
    if path.startswith(("/", "../")):
        raise ConfigError(
            f"source {source[:80]!r} is outside the repository",
            hint="copy it into the repository: a lockfile cannot name what reviewers cannot see",
        )


def locate(root: Path, source: str) -> Path:
    """The absolute path of a `path:` source; refuses what leaves the repository by a link."""
    check(source)
    path = root.resolve() / source.removeprefix("path:")
    if not path.exists():
        raise LockError(f"{source} does not exist", hint="check the path in aicert.toml")
    if path.resolve() != path:
        raise LockError(
            f"{source} goes through a symbolic link to {path.resolve()}",
            hint="put the files themselves there, for example with `cp -rL`",
        )
    return path


def resolve(root: Path, source: str) -> Resolved:
    """Measure a source. Raises LockError or EvidenceError for what cannot be certified."""
    path = locate(root, source)
    if path.is_dir():
        files = cached_tree(path)
        return Resolved(
            uri=source,
            path=path,
            size=total(files),
            digest=dir_digest(files),
            listing=listing(files),
        )
    fact = cached_file(path)
    return Resolved(
        uri=source, path=path, size=fact.size, digest=Digest("sha256", fact.sha256), listing=None
    )


def total(files: dict[str, FileFact]) -> int:
    """The bytes of all files."""
    return sum(fact.size for fact in files.values())
