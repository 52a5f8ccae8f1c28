"""What changed between two revisions of the lockfiles, in words and numbers.

Both sides are read as data (`rules.review.revisions`). An unreadable lockfile, listing or config is
a warning and not an error, because the review has to report it. Rendering is in
`rules.review.text`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import AicertError
from aicert.formats import lockfile as form
from aicert.formats.digest import of_bytes
from aicert.formats.listing import parse_listing
from aicert.formats.lockfile import LockedInput, Lockfile
from rules.host.progress import amount
from rules.host.rows import Row, Section, moved
from rules.project.locked import DIRECTORY
from rules.review import config_fields, images_list, table_facts
from rules.review.bytes_at_hand import Finder
from rules.review.packages import IMAGES, image_section, training_section
from rules.review.revisions import Files

SUFFIX = ".lock.toml"
# A reviewer reads a few dozen names; the listings contain all of them.
MAX_FILES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """The sections that differ, and what a reviewer must not miss."""

    base: str
    head: str
    sections: tuple[Section, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two states, and where to look for its files."""

    files: Files
    finder: Finder

    def lockfile(self, run: str) -> bytes | None:
        """Return a run's lockfile."""
        return self.files.read(f"{DIRECTORY}/{run}{SUFFIX}")

    def listing(self, run: str, item: LockedInput | None) -> dict[str, str] | None:
        """Return an input's files by SHA-256; None unless the listing matches the input's
        digest.
        """
        if item is None:
            return {}
        if item.digest.kind == "sha256":
            return {"": item.digest.hex}
        data = self.files.read(f"{DIRECTORY}/{run}/{item.name}.sha256")
        if data is None or of_bytes(data).hex != item.digest.hex:
            return None
        try:
            return parse_listing(data)
        except AicertError:
            return None


def review(root: Path, base: Files, head: Files) -> Review:
    """Compare `base` with `head`."""
    old, new = (Side(files=files, finder=Finder(root, files)) for files in (base, head))
    warnings = [f"{path} is {kind}: only plain files may be there" for path, kind in head.odd()]
    names = {run for files in (base, head) for run in _runs(files)}
    sections = [_run_section(run, old, new, warnings) for run in sorted(names)]
    sections += [image_section(base, head, warnings, path) for path in IMAGES]
    sections.append(images_list.section(base, head, warnings))
    sections.append(training_section(base, head, warnings))
    return Review(
        base=base.name,
        head=head.name,
        sections=tuple(section for section in sections if section is not None),
        warnings=tuple(warnings),
    )


def _runs(files: Files) -> Iterator[str]:
    for path in files.names(DIRECTORY):
        name = path.removeprefix(f"{DIRECTORY}/")
        if "/" not in name and name.endswith(SUFFIX) and path not in IMAGES:
            yield name.removesuffix(SUFFIX)


def _run_section(run: str, old: Side, new: Side, warnings: list[str]) -> Section | None:
    before, after = old.lockfile(run), new.lockfile(run)
    if before == after and _listings(run, old) == _listings(run, new):
        return None
    parsed_old = _parsed(run, before, old.files.name, warnings)
    parsed_new = _parsed(run, after, new.files.name, warnings)
    rows = [
        *moved("lockfile", *(None if d is None else str(of_bytes(d)) for d in (before, after))),
        *moved("PCR 14", _pcr(before, parsed_old), _pcr(after, parsed_new)),
    ]
    if parsed_old is not None and parsed_new is not None:
        rows += moved("trainer", parsed_old.trainer, parsed_new.trainer)
        rows += moved("outputs", " ".join(parsed_old.outputs), " ".join(parsed_new.outputs))
        rows += moved("ranks", str(parsed_old.ranks), str(parsed_new.ranks))
        rows += moved(
            "audits", *(" ".join(one.audits) or "none" for one in (parsed_old, parsed_new))
        )
    inputs_old, inputs_new = _inputs(parsed_old), _inputs(parsed_new)
    for name in sorted(inputs_old.keys() | inputs_new.keys()):
        pair = inputs_old.get(name), inputs_new.get(name)
        rows += _input_rows(run, (old, new), pair, warnings)
    word = "new" if before is None else "removed" if after is None else "changed"
    return Section(title=f"run {run}", word=word, rows=tuple(rows))


def _listings(run: str, side: Side) -> list[bytes | None]:
    paths = side.files.names(f"{DIRECTORY}/{run}")
    return [side.files.read(path) for path in paths if path.endswith(".sha256")]


def _parsed(run: str, data: bytes | None, name: str, warnings: list[str]) -> Lockfile | None:
    if data is None:
        return None
    try:
        parsed = form.parse(data)
    except AicertError as error:
        warnings.append(f"run {run}: lockfile in {name} cannot be read: {error.message}")
        return None
    if parsed.run != run:
        warnings.append(f"run {run}: lockfile in {name} says that it is for run {parsed.run}")
    return parsed


def _pcr(data: bytes | None, parsed: Lockfile | None) -> str | None:
    if data is None or parsed is None:
        return None
    return f"sha256:{form.pcr14(data).hex()}"


def _inputs(parsed: Lockfile | None) -> dict[str, LockedInput]:
    return {} if parsed is None else {item.name: item for item in parsed.inputs}


def _input_rows(
    run: str,
    sides: tuple[Side, Side],
    pair: tuple[LockedInput | None, LockedInput | None],
    warnings: list[str],
) -> list[Row]:
    name = next(item.name for item in pair if item is not None)
    rows: list[Row] = []
    facts = [_facts(item) for item in pair]
    for label in sorted(facts[0].keys() | facts[1].keys(), key=_ORDER.index):
        rows += moved(f"input {name}: {label}", facts[0].get(label), facts[1].get(label))
    new = pair[1]
    if new is not None and new.allow_pickle:
        warnings.append(f"run {run}: input {name} may contain pickles, which can run code")
    if new is not None and new.allow_remote_code:
        warnings.append(
            f"run {run}: Python files in input {name} may run in the trainer: read them; "
            "a verdict passes only under a policy that allows remote-code"
        )
    listings = [side.listing(run, item) for side, item in zip(sides, pair, strict=True)]
    for side, item, listing in zip(sides, pair, listings, strict=True):
        if listing is None and item is not None:
            warnings.append(
                f"run {run}: listing of input {name} in {side.files.name} is missing or does "
                f"not match {item.digest}"
            )
    if None not in listings:
        rows += _file_rows(run, sides, pair, listings[0] or {}, listings[1] or {})
    return rows


_ORDER = (
    "from",
    "only",
    "except",
    "allow-pickle",
    "allow-remote-code",
    "signed-by",
    "uri",
    "size",
    "digest",
)


def _facts(item: LockedInput | None) -> dict[str, str]:
    if item is None:
        return {}
    facts = {"from": item.source, "uri": item.uri, "digest": str(item.digest)}
    exact = f"{item.size:,} bytes"
    facts["size"] = exact if item.size < 1024 else f"{amount(item.size, 'B')} ({exact})"
    if item.only:
        facts["only"] = " ".join(item.only)
    if item.except_:
        facts["except"] = " ".join(item.except_)
    if item.allow_pickle:
        facts["allow-pickle"] = "true"
    if item.allow_remote_code:
        facts["allow-remote-code"] = "true"
    if item.signed_by is not None:
        facts["signed-by"] = item.signed_by
    return facts


def _file_rows(
    run: str,
    sides: tuple[Side, Side],
    pair: tuple[LockedInput | None, LockedInput | None],
    old: Mapping[str, str],
    new: Mapping[str, str],
) -> list[Row]:
    """Return each file that differs, with its rows if the bytes are here, and the fields of a
    config that differ.
    """
    changed = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    if not changed:
        return []
    name = next(item.name for item in pair if item is not None)
    counts = [
        f"{sum(1 for path in changed if path not in old)} added",
        f"{sum(1 for path in changed if path not in new)} removed",
        f"{sum(1 for path in changed if path in old and path in new)} changed",
    ]
    rows = []
    if "" not in changed:
        rows.append(Row(label=f"input {name}: files", old=str(len(old)), new=str(len(new)),
                        note=", ".join(counts)))  # fmt: skip
    for path in changed[:MAX_FILES]:
        contents = [
            None
            if item is None or path not in files
            else side.finder.find(run, item, path, files[path])
            for side, item, files in zip(sides, pair, (old, new), strict=True)
        ]
        rows += _one_file(name, path, path in old, path in new, contents, pair)
    if len(changed) > MAX_FILES:
        rows.append(Row(label=f"input {name}", note=f"and {len(changed) - MAX_FILES} more files"))
    return rows


def _one_file(
    name: str,
    path: str,
    was: bool,
    is_: bool,
    contents: list[bytes | None],
    pair: tuple[LockedInput | None, LockedInput | None],
) -> list[Row]:
    if name == form.CONFIG_INPUT:
        return _config_rows(contents, was, is_)
    source = next(item.source for item in reversed(pair) if item is not None)
    facts = [None if data is None else _content(path or source, data) for data in contents]
    absent = "not here"
    return [
        Row(
            label=f"input {name}: {path or 'file'}",
            old=(facts[0] or absent) if was else None,
            new=(facts[1] or absent) if is_ else None,
        )
    ]


def _content(name: str, data: bytes) -> str:
    rows = table_facts.rows(name, data)
    size = amount(len(data), "B")
    return size if rows is None else f"{rows:,} rows, {size}"


def _config_rows(contents: list[bytes | None], was: bool, is_: bool) -> list[Row]:
    read = [None if data is None else config_fields.fields(data) for data in contents]
    if (was and read[0] is None) or (is_ and read[1] is None):
        missing = (was and contents[0] is None) or (is_ and contents[1] is None)
        why = "the bytes are not here" if missing else "it is not plain YAML"
        return [Row(label="config", note=f"fields cannot be compared: {why}")]
    changed = config_fields.changes(read[0] or {}, read[1] or {})
    shown = [
        Row(label=f"config: {field}", old=old or None, new=new or None)
        for field, old, new in changed[:MAX_FILES]
    ]
    if not changed:
        return [Row(label="config", note="different bytes, but the same fields")]
    if len(changed) > MAX_FILES:
        shown.append(Row(label="config", note=f"and {len(changed) - MAX_FILES} more fields"))
    return shown
