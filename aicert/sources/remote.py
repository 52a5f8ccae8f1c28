"""The operations that every remote scheme has: resolve a source to files with digests; fetch them.

A scheme is one module with `resolve(source, choice, transfer)` and `fetch(source, wanted,
transfer)`, which is imported when it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from aicert.errors import AicertError, LockError, ToolError
from aicert.formats.digest import Digest, FileFact
from aicert.formats.listing import dir_digest, listing
from aicert.formats.lockfile import LockedInput
from aicert.sources.choice import Choice
from aicert.sources.forms import GitSource, HubSource, Remote, WebSource, parse
from aicert.sources.placeholders import HEAD, refuse
from aicert.sources.transfer import Transfer

MODULES: Mapping[type[Remote], str] = {
    HubSource: "aicert.sources.hub",
    GitSource: "aicert.sources.git",
    WebSource: "aicert.sources.web",
}
# The key of an input that is one file, in `ResolvedSource.files` and in what `fetch` is asked for.
FILE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSource:
    """What a source has: `uri` is pinned; `files` is `{path: fact}`, or `{FILE: fact}`."""

    uri: str
    files: Mapping[str, FileFact]

    @property
    def is_file(self) -> bool:
        """Whether the input is one file, not a directory."""
        return FILE in self.files

    @property
    def size(self) -> int:
        """The total size of all files in bytes."""
        return sum(fact.size for fact in self.files.values())

    @property
    def digest(self) -> Digest:
        """The input's digest, as a lockfile has it."""
        if self.is_file:
            return Digest("sha256", self.files[FILE].sha256)
        return dir_digest(self.files)

    @property
    def listing(self) -> bytes | None:
        """The listing of a directory; None for one file."""
        return None if self.is_file else listing(self.files)


class Scheme(Protocol):
    """The interface of a scheme's module."""

    def resolve(self, source: Remote, choice: Choice, transfer: Transfer) -> ResolvedSource:
        """Resolve the source; small files whose metadata has no SHA-256 are fetched and hashed."""

    def fetch(self, source: Remote, wanted: Mapping[str, str], transfer: Transfer) -> None:
        """Fetch the files `{path: sha256}` of a pinned source into the store."""


def scheme_of(source: Remote) -> Scheme:
    """Return the module for this kind of source."""
    try:
        return cast(Scheme, import_module(MODULES[type(source)]))
    except ImportError as error:
        raise ToolError(
            f"asking sources needs the package {error.name}, which is not installed",
            hint="in a checkout of this project: pip install '.[sources]'",
        ) from None


def resolve(text: str, choice: Choice, transfer: Transfer) -> ResolvedSource:
    """Resolve a remote source. Raises LockError or ToolError with the source in front."""
    source = remote(text)
    try:
        resolved = scheme_of(source).resolve(source, choice, transfer)
        _refuse_placeholders(text, {p: fact.sha256 for p, fact in resolved.files.items()}, transfer)
        return resolved
    except AicertError as error:
        raise type(error)(f"{text}: {error.message}", hint=error.hint) from None


def fetch(uri: str, wanted: Mapping[str, str], transfer: Transfer) -> None:
    """Fetch the files `{path: sha256}` of a pinned source. Raises as `resolve` does."""
    source = remote(uri)
    try:
        scheme_of(source).fetch(source, wanted, transfer)
        _refuse_placeholders(uri, wanted, transfer)
    except AicertError as error:
        raise type(error)(f"{uri}: {error.message}", hint=error.hint) from None


def _refuse_placeholders(source: str, files: Mapping[str, str], transfer: Transfer) -> None:
    """Raise LockError if a fetched file is a placeholder, and remove it from the store.

    Checks those of the files `{path: sha256}` that are in the store.
    """
    for path, sha256 in files.items():
        try:
            with transfer.store.file(sha256).open("rb") as file:
                head = file.read(HEAD)
        except FileNotFoundError:
            continue
        try:
            refuse(path or source.partition("?")[0].partition("#")[0].rpartition("/")[2], head)
        except LockError:
            transfer.store.remove(sha256)
            raise


def remote(text: str) -> Remote:
    """Parse a remote source. Raises LockError for a source inside the repository."""
    source = parse(text)
    if not isinstance(source, Remote):
        raise LockError(f"{text} is not a source that can be asked")
    return source


def choice_of(item: LockedInput) -> Choice:
    """Return the choice of files that a lockfile repeats."""
    return Choice(only=item.only, except_=item.except_, allow_pickle=item.allow_pickle)
