"""Which paths a certified tree may hold: plain, relative, and no two that one system would merge.

A path is refused if another system, a reader or a shell could take it for a different one. Left
out: the disk, which `files/tree.py` walks.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from aicert.errors import EvidenceError
from aicert.text import IGNORABLE

# Linux PATH_MAX and NAME_MAX: longer paths could not be written back to a disk.
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
# A shard list, a tokenizer and a code repository stay far below; a listing line is ~100 bytes.
MAX_FILES = 1_000_000
# Deeper trees do not occur; open directory descriptors are bounded by this.
MAX_DEPTH = 64


# One character can fold to 18 characters; names full of such would turn one megabyte into six.
MAX_GROWTH = 4


class OddNameError(EvidenceError):
    """A path with characters that are invisible or ambiguous. `advice` is for somebody who can
    rename the file; whoever only verifies cannot.
    """

    advice: str | None = None


class UnclearNameError(OddNameError):
    """An odd path that people may write honestly: systems differ on it (NFD, joiners)."""


def check_path(path: str) -> None:
    """Refuse a path that another system, a reader or a shell could take for a different one."""
    _folded(path)


def _folded(path: str) -> str:
    """Refuse a path as `check_path` does; return `fold(path)`, which is costly for some paths."""
    try:
        raw = path.encode("utf-8")
    except UnicodeEncodeError:
        raise EvidenceError(f"path is not valid UTF-8: {path[:200]!a}") from None
    if not raw or len(raw) > MAX_PATH_BYTES:
        raise EvidenceError(f"path is empty or longer than {MAX_PATH_BYTES} bytes: {path[:80]!a}")
    # Cc, Cf (bidi overrides, zero width), Cs, Co, Cn, Zl, Zp are invisible or ambiguous; printable
    # text has none of them.
    plain = path.isprintable() or all(
        unicodedata.category(c) not in _UNSAFE_CATEGORIES for c in path
    )
    if not raw.isascii():
        plain = plain and unicodedata.is_normalized("NFC", path)
        plain = plain and not re.search(IGNORABLE, path)
    if not plain or "\\" in path:
        raise _unclear(path)
    folded = fold(path)
    # Some characters fold to text with a slash in it: another system would see a folder.
    same = folded.count("/") == path.count("/") <= MAX_DEPTH
    if not same or len(folded) > MAX_GROWTH * len(path):
        raise EvidenceError(
            f"path is deeper than {MAX_DEPTH}, or has characters like a slash or that fold to "
            f"many: {path[:200]!a}"
        )
    rooted = f"/{path}/"
    if "//" in rooted or "/./" in rooted or "/../" in rooted:
        raise EvidenceError(f"path is not a plain relative path: {path[:200]!a}")
    if len(raw) > MAX_NAME_BYTES and any(len(part) > MAX_NAME_BYTES for part in raw.split(b"/")):
        raise EvidenceError(
            f"a name in the path is longer than {MAX_NAME_BYTES} bytes: {path[:200]!a}"
        )
    return folded


def _unclear(path: str) -> OddNameError:
    """Return the error for an odd name, with advice about the first rule that it breaks."""
    message = (
        "path has a control or invisible character, a backslash or is not in Unicode NFC: "
        f"{path[:200]!a}"
    )
    odd = [c for c in path if c == "\\" or unicodedata.category(c) in _UNSAFE_CATEGORIES]
    odd += re.findall(IGNORABLE, path)
    honest = all(_JOINERS.fullmatch(c) or unicodedata.category(c) == "Cn" for c in odd)
    error = (UnclearNameError if honest else OddNameError)(message)
    error.advice = "rename it to NFC: convmv -f utf-8 -t utf-8 --nfc -r --notest DIR"
    if odd:
        error.advice = f"rename it without the character U+{ord(odd[0]):04X}"
    return error


# Scripts and emoji need these: joiners, variation selectors, tags of flags. Letters and emoji that
# are too new for this Python's Unicode are honest too.
_JOINERS = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0020-\U000e007f]")
_UNSAFE_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def check_paths(paths: Iterable[str]) -> None:
    """Apply `check_path` to each; refuse twins (equal but for case) and files used as folders."""
    paths = list(paths)
    if len(paths) > MAX_FILES:
        raise EvidenceError(f"more than {MAX_FILES} files")
    folded = map(str.lower if _are_plain(paths) else _folded, paths)
    # NUL is in no path and sorts before everything else: a folder's content comes right after a
    # file of that name, so that comparing neighbours finds every twin.
    keyed = sorted((key.replace("/", "\0"), path) for key, path in zip(folded, paths, strict=True))
    for (before, one), (key, other) in pairwise(keyed):
        if before == key:
            raise EvidenceError(
                f"two paths differ only in case or form: {one[:200]!a}, {other[:200]!a}"
            )
        if key.startswith(before + "\0"):
            raise EvidenceError(f"a path is both a file and a directory: {one[:200]!a}")
        mine, theirs = one.rpartition("/")[0], other.rpartition("/")[0]
        if mine != theirs:
            _check_folders(mine.split("/"), theirs.split("/"), before.split("\0"), key.split("\0"))


# Names of these characters, neither `.` nor `..`, with a slash or a line end after each.
# Possessive, so no backtracking state is kept: for a million names it would take gigabytes.
_PLAIN = re.compile(r"(?:(?!\.{1,2}(?:[/\n]|\Z))[A-Za-z0-9._+=@, -]{1,255}+(?:[/\n]|\Z))++")


def _are_plain(paths: list[str]) -> bool:
    """Return whether `check_path` would surely accept all of them.

    This looks at all paths at once, in a fraction of the time, and suffices for the paths that
    models and data sets have. False only means that each must be checked.
    """
    text = "\n".join(paths)
    return (
        text.isascii()
        and text.count("\n") == len(paths) - 1
        and max(path.count("/") for path in paths) <= MAX_DEPTH
        and max(map(len, paths)) <= MAX_PATH_BYTES
        # A slash before a line end means a path that ends in a slash; a line end at the end, an
        # empty path.
        and text[-1:] not in ("/", "\n")
        and "/\n" not in text
        and _PLAIN.fullmatch(text) is not None
    )


def _check_folders(
    one: list[str], other: list[str], folded_one: list[str], folded_other: list[str]
) -> None:
    for mine, theirs, before, key in zip(one, other, folded_one, folded_other, strict=False):
        if mine != theirs:
            if before == key:
                raise EvidenceError(
                    f"two directories differ only in case or form: {mine!a}, {theirs!a}"
                )
            return


def fold(path: str) -> str:
    """Return a form of `path` that ignores case and normalisation.

    A case-insensitive or normalising file system would merge two paths with the same form.
    """
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())
