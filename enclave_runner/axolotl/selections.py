"""Find the rows that a config names, and rewrite it to name their canonical form.

Each data reference becomes a selection of one input's files; in the effective config it is replaced
by the folder of canonical rows that the runner makes of them (docs/spec/records.md). This is pure,
and the same on every machine: only file names decide. A split keeps its name and its slices, which
the trainer's library applies to the canonical rows. What that library would silently ignore, or
read from somewhere else, is refused here by key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from aicert.formats.run_report_facts import MAX_RECORD_FILES, MAX_RECORDS
from aicert.records import select
from aicert.records.errors import RowsRefused
from aicert.records.forms import SUPPORTED, form_of
from enclave_runner.axolotl.config_rules import ROWS, ConfigRefused
from enclave_runner.inputs.references import Selection
from enclave_runner.sandbox.places import INPUTS

TRAIN, TEST = "train", "test"
# The types that `pretraining_dataset` may have, and the column of text that it reads by default.
_PRETRAIN, _COMPLETION, _TEXT = "pretrain", "completion", "text"
# The grammar of `datasets` for one of the parts that `+` joins in a split.
_SPLIT = re.compile(
    r"(?P<name>\w+(?:\.\w+)*)"
    r"(?P<slice>\[(?:-?[\d_]+%?)?:(?:-?[\d_]+%?)?\])?(?:\([^)]*\))?",
    re.ASCII,
)
_MAX_SPLIT = 64
# The most bytes that paths may take: half of a run report.
_MAX_PATHS = 1 << 19
_EVERYTHING = "all"


class Selections:
    """Collects the selections of one config.

    `files`: input → paths in it, or None if the input is a file.
    """

    def __init__(self, files: Mapping[str, Iterable[str] | None]) -> None:
        self._files = files
        self._found: dict[tuple[object, ...], Selection] = {}

    @property
    def all(self) -> tuple[Selection, ...]:
        return tuple(self._found.values())

    def rewrite(self, settings: dict[str, object]) -> None:
        """Replace every data reference of a resolved config by the place of its canonical rows."""
        streaming = bool(settings.get("streaming")) and not settings.get("rl")
        _refuse_unread(settings, streaming=streaming)
        for key in ROWS:
            value = settings.get(key)
            pretraining = key == "pretraining_dataset"
            default = TRAIN if key != "test_datasets" or settings.get("rl") else TEST
            streams = pretraining or (streaming and key == "datasets")
            if isinstance(value, str) and value:
                entry: dict[str, Any] = {"path": value}
                self._entry(entry, key, default, streams=streams)
                settings[key] = entry["path"]
            elif isinstance(value, dict):
                self._entry(value, key, default, streams=streams)
            elif isinstance(value, list):
                for index, each in enumerate(value):
                    if isinstance(each, dict):
                        self._entry(each, f"{key}[{index}]", default, streams=streams)
        self._check_bounds()

    def _check_bounds(self) -> None:
        """Refuse more splits, files or bytes of paths than the run report can hold."""
        splits = [files for each in self.all for files in each.splits.values()]
        paths = [path for files in splits for path in files]
        size = sum(len(json.dumps(path)) for path in paths)
        for count, most, what in (
            (len(splits), MAX_RECORDS, "splits"),
            (len(paths), MAX_RECORD_FILES, "files"),
            (size, _MAX_PATHS, "bytes of paths"),
        ):
            if count > most:
                raise ConfigRefused(
                    ROWS[0],
                    f"there are {count} {what} of rows, but a run report holds at most {most}",
                    hint="merge some of the files",
                )

    def _entry(self, entry: dict[str, Any], key: str, default: str, *, streams: bool) -> None:
        path = entry.get("path")
        if not isinstance(path, str) or not path:
            raise ConfigRefused(f"{key}.path", "missing", hint="name an input: `path: input:NAME`")
        if entry.get("name") not in (None, "", "default"):
            raise ConfigRefused(
                f"{key}.name",
                "a data set's configurations are in its README, which is never read",
                hint="remove `name`, and list its files: `data_files: [input:NAME/FILE, …]`",
            )
        splits = self._chosen(path, entry.pop("data_files", None), key)
        if entry.get("ds_type"):
            _check_form(str(entry["ds_type"]), splits, f"{key}.ds_type")
        wanted = _wanted(entry.get("split"), splits, default, key, streams=streams)
        selection = self._add(
            self._parted(path)[0],
            str(entry["ds_type"]) if entry.get("ds_type") else None,
            {name: splits[name] for name in wanted},
        )
        entry["path"] = selection.place
        entry["split"] = entry.get("split") or default
        if entry.get("ds_type"):
            entry["ds_type"] = "json"

    def _add(self, name: str, form: str | None, splits: Mapping[str, tuple[str, ...]]) -> Selection:
        identity = (name, form, tuple(sorted(splits.items())))
        number = sum(each.input == name for each in self._found.values())
        new = Selection(input=name, number=number, form=form, splits=splits)
        return self._found.setdefault(identity, new)

    def _parted(self, place: str) -> tuple[str, str]:
        """Return the input of a resolved reference, and the path in it."""
        name, _, inside = place.removeprefix(INPUTS + "/").partition("/")
        return name, inside

    def _chosen(self, path: str, data_files: object, key: str) -> dict[str, tuple[str, ...]]:
        name, inside = self._parted(path)
        files = self._files[name]
        paths = frozenset(files or ())
        listed = [data_files] if isinstance(data_files, str) else data_files
        if files is None or inside in paths:
            if listed:
                raise ConfigRefused(
                    f"{key}.data_files",
                    "`path` already names one file, so Axolotl would ignore this",
                    hint="remove `data_files`",
                )
            if inside and form_of(inside) is None:
                raise ConfigRefused(
                    f"{key}.path", f"files like {inside[:80]!r} cannot be read as rows",
                    hint=f"use {SUPPORTED}",
                )  # fmt: skip
            return {TRAIN: (inside,)}
        below = f"{inside}/" if inside else ""
        names = None
        if isinstance(listed, list) and listed:
            names = [self._listed(str(each), name, below, f"{key}.data_files") for each in listed]
        try:
            by_split = select.choose(
                (each.removeprefix(below) for each in paths if each.startswith(below)),
                names,
                where=f"input {name}",
            )
        except RowsRefused as error:
            raise ConfigRefused(f"{key}.path", error.message, hint=error.hint) from None
        return {split: tuple(below + each for each in chosen) for split, chosen in by_split.items()}

    def _listed(self, place: str, name: str, below: str, key: str) -> str:
        other, inside = self._parted(place)
        if other != name:
            raise ConfigRefused(
                key,
                f"these are files of input {other!r}, but `path` names input {name!r}",
                hint="give each input an entry of its own",
            )
        if not inside.startswith(below):
            raise ConfigRefused(key, f"{inside[:80]!r} is not inside what `path` names")
        return inside.removeprefix(below)


def _refuse_unread(settings: Mapping[str, object], *, streaming: bool) -> None:
    """Refuse rows that Axolotl would silently leave out, since the run report would count them."""
    pretraining, rows = settings.get("pretraining_dataset"), settings.get("datasets")
    first = "with `{}` Axolotl reads only the first"
    if pretraining and (settings.get("rl") or rows):
        key = "pretraining_dataset" if settings.get("rl") else "datasets"
        other = "rl" if settings.get("rl") else "pretraining_dataset"
        raise ConfigRefused(key, f"with `{other}` Axolotl does not read it", hint=f"remove `{key}`")
    if isinstance(pretraining, list) and len(pretraining) > 1:
        raise ConfigRefused("pretraining_dataset", first.format("pretraining_dataset"))
    _refuse_other_texts(pretraining)
    if not streaming or pretraining:
        return
    if settings.get("sample_packing"):
        if isinstance(rows, list) and len(rows) > 1:
            raise ConfigRefused("datasets", first.format("streaming` and `sample_packing"))
    elif settings.get("test_datasets"):
        raise ConfigRefused(
            "test_datasets",
            "with `streaming` and without `sample_packing` Axolotl does not read it",
            hint="remove `test_datasets`",
        )


def _refuse_other_texts(pretraining: object) -> None:
    """Refuse types for `pretraining_dataset` that do not read exactly the column `text_column`.

    With some of them, what Axolotl reads depends on packing; the loss would be measured on a text
    that was not trained on.
    """
    for entry in pretraining if isinstance(pretraining, list) else [pretraining]:
        if not isinstance(entry, dict):
            continue
        kind, column = str(entry.get("type") or _PRETRAIN), str(entry.get("text_column") or _TEXT)
        base = kind.removesuffix(".load")
        if base == _COMPLETION and column != _TEXT:
            raise ConfigRefused(
                "pretraining_dataset.text_column",
                f"with `type: {kind}` Axolotl reads the column `{_TEXT}` when it packs rows",
                hint=f"use `type: {_PRETRAIN}`",
            )
        if base not in (_PRETRAIN, _COMPLETION):
            raise ConfigRefused(
                "pretraining_dataset.type",
                f"{kind[:80]!r} reads more than one column of text",
                hint=f"use `type: {_PRETRAIN}`, or `datasets` with `streaming: true`",
            )


def _wanted(
    split: object, splits: Mapping[str, object], default: str, key: str, *, streams: bool
) -> list[str]:
    """Return the splits that an expression reads, in the order of `splits`."""
    text = str(split) if split else default
    names: set[str] = set()
    for part in re.split(r"\s*\+\s*", text):
        match = _SPLIT.fullmatch(part)
        if match is None:
            raise ConfigRefused(
                f"{key}.split", f"{text[:80]!r} is not a split",
                hint="for example `train`, `train[:90%]` or `train+test`",
            )  # fmt: skip
        if streams and (part != text or match["slice"]):
            raise ConfigRefused(
                f"{key}.split", "streamed rows must come from one whole split",
                hint="name one split, without a slice",
            )  # fmt: skip
        if match["name"] == _EVERYTHING:
            names |= set(splits)
        elif match["name"] in splits:
            names.add(match["name"])
        else:
            offered = ", ".join(f"`split: {each}`" for each in splits)
            raise ConfigRefused(
                f"{key}.split",
                f"the files have no split {match['name'][:80]!r}",
                hint=f"their names say: {offered}",
            )
    long = next((each for each in names if len(each) > _MAX_SPLIT or not each.isascii()), None)
    if long is not None:
        raise ConfigRefused(
            f"{key}.split",
            f"the name {long[:80]!r} is not ASCII, or longer than {_MAX_SPLIT}",
        )
    return [each for each in splits if each in names]


def _check_form(form: str, splits: Mapping[str, tuple[str, ...]], key: str) -> None:
    if form == "arrow":
        raise ConfigRefused(
            key, "Arrow files are not read: they hold caches, and types that rows cannot have",
            hint="save the rows as `.parquet` or `.jsonl`",
        )  # fmt: skip
    for path in (each for paths in splits.values() for each in paths):
        actual = form_of(path)
        if actual is not None and actual.form != form:
            raise ConfigRefused(key, f"{path[:80]!r} is not {form} but {actual.form}")
