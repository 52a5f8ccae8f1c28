"""Choose the files of a directory that rows are read from, and the split that each belongs to.

The configuration's `data_files` decide; without them, the paths do, and the files of a split are
read sorted by path. The content of files decides nothing: no README header, no list, no cache.
Anything ambiguous is refused, so that no file is left out silently.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from aicert.records.errors import RowsRefused
from aicert.records.forms import SUPPORTED, form_of

DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]]
DEFAULT = "train"
# The words by which `datasets` recognises splits.
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLITS = {word: split for split, words in _WORDS.items() for word in words}
# The way that the Hub names the parts of a split.
_PART = re.compile(r"(?:^|/)data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*$")
_BETWEEN = re.compile(r"[-._ 0-9/]+")
# Files that `datasets` itself writes beside rows.
_BESIDE = {
    "config.json",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "state.json",
}


def choose(
    files: Iterable[str], data_files: DataFiles | None = None, *, where: str = "."
) -> dict[str, list[str]]:
    """Return the files of each split, in the order in which their rows are read.

    `files` are paths below the directory; `where` names it in errors.
    """
    listed = sorted(files)
    if data_files is None:
        return _by_paths([path for path in listed if _holds_rows(path)], where)
    splits = data_files if isinstance(data_files, Mapping) else {DEFAULT: data_files}
    return {split: _named(listed, names, where) for split, names in splits.items()}


def _named(listed: Sequence[str], names: str | Sequence[str], where: str) -> list[str]:
    """Return the files that a list of paths and patterns names, in the order of the list.

    Files that match the same pattern are sorted by path.
    """
    chosen: list[str] = []
    for name in (names,) if isinstance(names, str) else names:
        pattern = name.removeprefix("./")
        matching = [path for path in listed if path == pattern or _matches(path, pattern)]
        if not matching:
            raise RowsRefused(where, f"no file is called {name!a}, which data_files names")
        for path in matching:
            if form_of(path) is None:
                raise RowsRefused(
                    path, "rows are not read from files of this kind", hint=f"use {SUPPORTED}"
                )
            if path in chosen:
                raise RowsRefused(path, "data_files names it twice")
            chosen.append(path)
    if not chosen:
        raise RowsRefused(where, "data_files names no file")
    return chosen


def _matches(path: str, pattern: str) -> bool:
    """Return whether `path` matches `pattern`.

    `*` and `?` match no slash; `**` between slashes matches any number of folders, even none. Parts
    are matched one by one, since one regular expression could take exponential time.
    """
    parts = path.split("/")
    # The numbers of parts of the path that the pattern may have matched so far.
    taken = {0}
    for part in pattern.split("/"):
        if part == "**":
            taken = {count for count in range(len(parts) + 1) if count >= min(taken)}
        else:
            # fnmatch would take a bracket for the start of a set of characters.
            wild = part.replace("[", "[[]")
            fitting = (count for count in taken if count < len(parts))
            taken = {count + 1 for count in fitting if fnmatchcase(parts[count], wild)}
        if not taken:
            return False
    return len(parts) in taken


def _holds_rows(path: str) -> bool:
    parts = path.split("/")
    hidden = any(part.startswith((".", "__")) for part in parts)
    return not hidden and parts[-1] not in _BESIDE and form_of(path) is not None


def _by_paths(paths: list[str], where: str) -> dict[str, list[str]]:
    hint = f"name the files in data_files; rows are read from {SUPPORTED}"
    forms = {path: known.form for path in paths if (known := form_of(path)) is not None}
    if len(set(forms.values())) > 1:
        # Text beside rows of another form is a licence or a word list.
        paths = [path for path in paths if forms[path] != "text"]
    if not paths:
        raise RowsRefused(where, "there is no file with rows", hint=hint)
    first = paths[0]
    other = next((path for path in paths if forms[path] != forms[first]), None)
    if other is not None:
        raise RowsRefused(where, f"{first!a} and {other!a} have different formats", hint=hint)
    splits: dict[str, list[str]] = {}
    for path in paths:
        splits.setdefault(_split(path, hint), []).append(path)
    if "" in splits and len(splits) > 1:
        raise RowsRefused(
            splits[""][0], "its name names no split, but other files' names do", hint=hint
        )
    return {split or DEFAULT: chosen for split, chosen in splits.items()}


def _split(path: str, hint: str) -> str:
    """Return the split that a path names; "" if it names none."""
    part = _PART.search(path)
    if part is not None:
        return part[1]
    splits = {_SPLITS[word] for word in _BETWEEN.split(path) if word in _SPLITS}
    if len(splits) > 1:
        raise RowsRefused(path, f"its name says {' and '.join(sorted(splits))}", hint=hint)
    return splits.pop() if splits else ""
