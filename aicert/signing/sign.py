"""Sign a model or data directory, or one file, as OpenSSF Model Signing.

What a signature leaves out is written into it and printed: git's files and the signature itself,
which the reference implementation leaves out too, and what the caller names. Notes point out what
the caller may not have meant. Digests may come from a cache by file status or from a listing;
verifiers read every byte.
"""

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.files.atomic import check_place, write_atomically
from aicert.files.bounded import StrPath, read_bounded
from aicert.formats.paths import OddNameError, check_paths
from aicert.frozen import dataclass
from aicert.model_signature import writer
from aicert.model_signature.reader import MAX_BYTES, SINGLE
from aicert.model_signature.signed_by import SIGNATURE
from aicert.signing import forms, hashing
from aicert.signing.forms import USUAL, Form
from aicert.signing.hashing import OnBytes
from aicert.signing.keys import Signer
from aicert.text import counted

# What model_signing leaves out of every tree by default: without them its verifier finds "extra".
GIT_NAMES = (".git", ".gitattributes", ".github", ".gitignore")
# What the hub's client leaves in a folder that it downloaded to, and where the hub itself keeps
# results of evaluations: both change without the model.
HUB_NAMES = (".cache/huggingface", ".eval_results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The result of signing: the signature file, how many files it covers, and what it leaves out.

    `notes` are for people.
    """

    signature: Path
    files: int
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def located(path: StrPath) -> Path:
    """Return `path` as an absolute path in which no folder is a link; the file itself may be one.

    `..` after a link is the folder above the one that the link leads to, as for the operating
    system: merely shortening the text would name a different folder.
    """
    if not os.fspath(path):
        raise ConfigError("a path is empty", hint="name the directory, or the file")
    try:
        given = Path(path).absolute()
    except FileNotFoundError:
        raise ToolError("the current directory no longer exists") from None
    if given.name in ("", ".."):
        return Path(os.path.realpath(given))
    return Path(os.path.realpath(given.parent)) / given.name


def default_signature(target: Path) -> Path:
    """Return the default path of a signature: in the directory, or beside the file."""
    if target.is_dir():
        return target / SIGNATURE
    return target.with_name(target.name + ".sig")


def sign(
    target: StrPath,
    signer: Signer,
    *,
    signature: StrPath | None = None,
    ignored: Sequence[str] = (),
    cache: StrPath | None = None,
    digests: Mapping[str, str] | None = None,
    key: StrPath | None = None,
    form: Form = USUAL,
    on_bytes: OnBytes | None = None,
) -> Signed:
    """Sign `target` and write the signature file.

    Args:
        target: a directory, or one file.
        signer: from `signers.load_signer`.
        signature: where to write; by default `default_signature(target)`.
        ignored: further relative paths to leave out, with all that lies below them.
        cache: a database of digests by file status; unchanged files are then not read again.
        digests: path → SHA-256 hex, known from elsewhere: nothing is read at all.
        key: where the private key is: it must not be among the signed files.
        form: another hash than SHA-256 of whole files, or links followed: all is read then.
        on_bytes: called with the number of bytes read, for progress.

    Raises:
        EvidenceError: the tree cannot be signed: empty, links, special files, ambiguous names.
        ConfigError: an ignored path is no plain relative path; the key would be signed; signature
            or cache would lie where they may not.
        ToolError: the signature cannot be written.
    """
    root = located(target)
    place = _place(root, signature)
    names = _ignored(root, place, ignored)
    _check_ignored(root, ignored, digests)
    _check_key(root, key, names, digests)
    if form != USUAL and (cache is not None or digests is not None):
        raise ConfigError("--cache and --digests are for SHA-256 of whole files, without links")
    notes: tuple[str, ...] = ()
    signed: Collection[str]
    try:
        if form == USUAL:
            known = _digest_of_path(root, names, cache, digests, on_bytes)
            ignoring = names if root.is_dir() or digests else ()
            payload, signed = writer.statement(root.name, known, ignoring), known
        else:
            payload, signed, empty = forms.statement(root, form, names, on_bytes)
            notes = tuple(f"an empty file cannot be signed in parts: {path}" for path in empty)
    except OddNameError as error:
        error.hint = error.advice
        raise
    notes += _notes(root, place, signed, listed=digests is not None)
    write_atomically(place, signer.bundle(payload))
    if digests is None:
        there = hashing.left_out(root, names)
    else:
        there = sorted({name for path in digests for name in _covered(path, names)})
    left = (name for name in there if root / name != place)
    return Signed(signature=place, files=len(signed), left_out=tuple(left), notes=notes)


def _digest_of_path(
    root: Path,
    names: Sequence[str],
    cache: StrPath | None,
    digests: Mapping[str, str] | None,
    on_bytes: OnBytes | None,
) -> dict[str, str]:
    if digests is not None:
        check_paths(digests)
        return {path: value for path, value in digests.items() if not _covered(path, names)}
    if cache is not None:
        return _remembered(root, located(cache), names, on_bytes)
    return {path: f.sha256 for path, f in hashing.whole_files(root, names, on_bytes).items()}


def _place(root: Path, signature: StrPath | None) -> Path:
    """Return where the signature of `root` goes; raise if it may not or cannot be written there."""
    place = default_signature(root) if signature is None else located(signature)
    if place == root:
        raise ConfigError("the signature would replace what it signs", hint="--signature FILE")
    if signature is not None:
        _check_replaceable(place)
    check_place(place)
    return place


def _check_ignored(root: Path, ignored: Sequence[str], digests: Mapping[str, str] | None) -> None:
    """Raise ConfigError if a path to be left out does not exist, since that must be a mistake."""
    for path in ignored:
        known = any(_covered(name, [path.rstrip("/")]) for name in digests or ())
        if not known and not os.path.lexists(root / path):
            raise ConfigError(
                f"--ignore names {path[:200]!a}, but nothing is there",
                hint=f"paths are relative to the directory: ls -A {shlex.quote(str(root))}",
            )


def _check_key(
    root: Path, key: StrPath | None, names: Sequence[str], digests: Mapping[str, str] | None
) -> None:
    """Raise ConfigError if the private key is one of the files to be signed."""
    if key is None:
        return
    path, home = Path(os.path.realpath(key)), Path(os.path.realpath(root))
    if not path.is_relative_to(home):
        return
    name = path.relative_to(home).as_posix()
    if (digests is None or name in digests) and not _covered(name, names):
        raise ConfigError(
            f"the key {os.fspath(key)!a} is among the files to be signed, and would be signed too",
            hint=f"keep it elsewhere, or --ignore {shlex.quote(name)}",
        )


def _notes(root: Path, place: Path, signed: Collection[str], *, listed: bool) -> tuple[str, ...]:
    notes: list[str] = []
    if root.is_dir() and listed:
        # This is not an error, because digests may be known before the files are there.
        missing = [path for path in signed if not os.path.lexists(root / path)]
        if missing:
            notes.append(
                f"{counted(len(missing), 'signed file')} not there, such as {min(missing)}"
            )
    if SIGNATURE in signed:
        notes.append(f"{SIGNATURE}, another signature, is among the signed files")
    if os.path.isfile(place):
        notes.append(f"the previous {place.name} was replaced")
    return tuple(notes)


def _check_replaceable(place: Path) -> None:
    """Raise ConfigError if a signature would replace a key, weights or a device."""
    if not os.path.lexists(place):
        return
    try:
        data = read_bounded(place, MAX_BYTES, "signature") if place.is_file() else b"-"
    except EvidenceError:
        data = b"-"
    if data and b'"dsseEnvelope"' not in data:
        raise ConfigError(
            f"{os.fspath(place)!a} already exists and is not a signature",
            hint="--signature FILE, a new one",
        )


def _remembered(
    root: Path, cache: Path, names: Sequence[str], on_bytes: OnBytes | None
) -> dict[str, str]:
    # Loading sqlite3 is a tenth of the start-up time: only with a cache.
    from aicert.cache.digest_cache import cached_file, cached_tree, check_own

    if cache.is_relative_to(root):
        raise ConfigError("the cache is inside the directory that is signed", hint="--cache FILE")
    check_own(cache)
    if not root.is_dir():
        return {SINGLE: cached_file(root, cache=cache, on_bytes=on_bytes).sha256}
    tree = cached_tree(root, cache=cache, on_bytes=on_bytes, skip=hashing.ignore(names))
    return {path: fact.sha256 for path, fact in tree.items()}


def _ignored(root: Path, place: Path, more: Sequence[str]) -> list[str]:
    names = [*GIT_NAMES, *HUB_NAMES, *hashing.plain_paths(more)]
    if place.is_relative_to(root) and place != root:
        names.append(place.relative_to(root).as_posix())
    return sorted(set(names))


def _covered(path: str, names: Sequence[str]) -> list[str]:
    """Return those of the ignored names that leave this path out."""
    return [name for name in names if f"{path}/".startswith(f"{name}/")]
