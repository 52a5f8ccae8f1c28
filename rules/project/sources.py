"""Where an input comes from: local schemes are handled here, remote ones in `aicert.sources`.

`path:` and `run:` inputs are measured each time. A remote source is asked only to lock, fetch or
check it, and its libraries are imported only then.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.errors import AicertError, ConfigError, LockError, ToolError
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.listing import listing
from aicert.sources import choice as choices
from aicert.sources import forms, placeholders
from aicert.sources.choice import Choice
from aicert.sources.forms import PathSource, RunSource
from aicert.sources.store import Store
from rules.host.bootstrap import cache_directory
from rules.host.names import suggestion
from rules.host.toml_table import FILE
from rules.project.digests import cached_file, cached_listing, cached_tree

if TYPE_CHECKING:
    from aicert.sources.transfer import Transfer

OUTPUTS = Path("outputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """An input's facts, and where its bytes are for a machine once they are fetched.

    `listing` is the sha256sum listing of a directory, None for a file. `parts` is set if `path`
    must first be assembled: `{path: the file in this repository}` for a chosen subset.
    """

    uri: str
    path: Path
    size: int
    digest: Digest
    listing: bytes | None
    parts: Mapping[str, Path] | None = None


def check(source: str) -> None:
    """Refuse a malformed source. Raises ConfigError."""
    forms.parse(source)


def checked(text: str, where: str) -> str:
    """Check a source of `aicert.toml` and return it. Raises ConfigError, which names the place
    `where`.
    """
    try:
        check(text)
    except AicertError as error:
        raise ConfigError(f"{FILE}: {where}: {error.message}", hint=error.hint) from None
    return text


def check_output(source: RunSource, outputs: Mapping[str, tuple[str, ...]], where: str) -> None:
    """Raise ConfigError unless that output exists. `outputs`: those of each run."""
    if source.run not in outputs:
        raise ConfigError(
            f"{where}: there is no run {source.run!r}{suggestion(source.run, outputs)}"
        )
    if source.output not in outputs[source.run]:
        raise ConfigError(
            f"{where}: run {source.run} has no output {source.output!r}"
            f"{suggestion(source.output, outputs[source.run])}"
        )


def is_local(source: str) -> bool:
    """Whether a source's bytes are in this checkout; they are compared every time."""
    return isinstance(forms.parse(source), PathSource | RunSource)


def run_of(source: str) -> str | None:
    """Return the run whose output a `run:` source names; None for other sources."""
    parsed = forms.parse(source)
    return parsed.run if isinstance(parsed, RunSource) else None


def store(root: Path) -> Store:
    """This checkout's store, or the one that AICERT_CACHE shares between checkouts."""
    return Store(cache_directory(root) / "store")


def locate(root: Path, source: str) -> Path:
    """Return the absolute path of a local source. Refuses links that lead out of the repository."""
    parsed = forms.parse(source)
    if isinstance(parsed, RunSource):
        path = root.resolve() / OUTPUTS / parsed.run / parsed.output
        if not path.is_dir() or not any(path.iterdir()):
            # This is not "stale": without those bytes nobody can tell.
            raise ToolError(
                f"run {parsed.run} has no output {parsed.output} here yet",
                hint=f"./doit certify {parsed.run}",
            )
        return path
    if not isinstance(parsed, PathSource):
        raise LockError(f"{source} is not in this repository")
    path = root.resolve() / parsed.path
    if not path.exists():
        raise LockError(f"{source} does not exist", hint="check the path in aicert.toml")
    if path.resolve() != path:
        raise LockError(
            f"{source} goes through a symbolic link to {path.resolve()}",
            hint="copy the files themselves there, for example with `cp -rL`",
        )
    return path


def measure(
    root: Path, source: str, choice: Choice, on_bytes: Callable[[int], None] | None = None
) -> Resolved:
    """Measure a local source. Raises LockError or EvidenceError if it cannot be certified."""
    path = locate(root, source)
    if not path.is_dir():
        if not choice.is_everything:
            raise LockError(
                "`only` and `except` choose files in a directory, but this is a single file"
            )
        if not choice.allow_pickle:
            _refuse_pickles(path.parent, [path.name])
        fact = cached_file(path, on_bytes=on_bytes)
        digest = Digest("sha256", fact.sha256)
        return Resolved(uri=source, path=path, size=fact.size, digest=digest, listing=None)
    if choice.is_everything:
        listed = cached_listing(path, on_bytes=on_bytes)
        if not choice.allow_pickle:
            _refuse_pickles(path, listed.names)
        return _tree(source, path, listed.size, listed.listing)
    files = cached_tree(path, on_bytes=on_bytes)
    chosen = choices.choose(files, replace(choice, allow_pickle=True))
    if not choice.allow_pickle:
        _refuse_pickles(path, chosen)
    files = {name: files[name] for name in chosen}
    data = listing(files)
    place = store(root).tree(of_bytes(data).hex)
    size = sum(fact.size for fact in files.values())
    return _tree(source, place, size, data, {name: path / name for name in chosen})


def ask(root: Path, source: str, choice: Choice, transfer: "Transfer") -> Resolved:
    """Resolve a remote source. Raises LockError or ToolError."""
    from aicert.sources import remote

    answer = remote.resolve(source, choice, transfer)
    return Resolved(
        uri=answer.uri,
        path=place(store(root), answer.digest),
        size=answer.size,
        digest=answer.digest,
        listing=answer.listing,
    )


def place(where: Store, digest: Digest) -> Path:
    """Return where a fetched input is: a file of the store, or a directory of links to its
    files.
    """
    return where.file(digest.hex) if digest.kind == "sha256" else where.tree(digest.hex)


def naming(name: str, function: Callable[[], Resolved]) -> Resolved:
    """Call, and prefix errors with the input's name. Raises LockError or ToolError."""
    try:
        return function()
    except AicertError as error:
        kind = ToolError if isinstance(error, ToolError) else LockError
        raise kind(f"input {name}: {error.message}", hint=error.hint) from None


def _refuse_pickles(folder: Path, names: Iterable[str]) -> None:
    """Refuse pickles by name. Say so if one is only a pointer to a file."""
    pickles = [name for name in names if choices.suffix(name) in choices.PICKLES]
    for name in pickles:
        with (folder / name).open("rb") as file:
            placeholders.refuse(name, file.read(placeholders.HEAD))
    choices.refuse_pickles(pickles)


def _tree(
    uri: str, path: Path, size: int, data: bytes, parts: Mapping[str, Path] | None = None
) -> Resolved:
    digest = Digest("dirHash", of_bytes(data).hex)
    return Resolved(uri=uri, path=path, size=size, digest=digest, listing=data, parts=parts)
