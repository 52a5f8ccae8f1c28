"""Refuse files of an input that send a loader elsewhere: what is read must be what was locked.

A weights index names shards; a configuration names tokenizer files, weights or a base model;
`datasets` takes file names from a card's header, from `.huggingface.yaml` and from the state of a
saved data set. Each may say `../x`, `/usr/x` or `file:/usr/x`. Accepted there: plain paths, which
stay below the input, and paths below `/aicert/inputs`, where everything is locked. Read are the
files that the libraries in `requirements.lock` look for by name. Left out: paths in rows of data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import yaml

from aicert.errors import LockError
from enclave_runner.config_rules import INPUTS

# An index of 15,000 tensors has 2 MB; a card's header, parsed slowly, some 100 kB.
_MAX_JSON = 1 << 26
_MAX_YAML = 1 << 20
_ELSEWHERE = re.compile(r"[\0-\x1f\x7f\\]|^\s*[/~]|(?:^|/)\.\.(?:/|$)|::|^\s*[A-Za-z][\w+.-]*:")
_INDEX = re.compile(r".*\.index(?:\.[^/]*)?\.json", re.DOTALL)
_CONFIG = re.compile(r".*config(?:\.[^/]*)?\.json", re.DOTALL)
# What `save_to_disk` of datasets writes, and what its older versions wrote.
_STATES = ("state.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json")
_STATE_KEYS = ("_data_files", "_indices_data_files", "splits")
_CARD, _BARE_CARD = "README.md", ".huggingface.yaml"
_HEADER = re.compile(r"\s*---[\r\n]+(.*?)[\r\n]+---(?:\r?\n|\Z)", re.DOTALL)
# Keys of configurations whose values are opened, beside those that end in `_file` or `_files`.
_NAMING = ("base_model_name_or_path", "transformers_weights")


def refuse_pointer(path: Path, name: str) -> None:
    """Raise LockError where `path`, the file `name` of an input, names a file outside of it."""
    for value in _named(path, PurePosixPath(name).name):
        if _ELSEWHERE.search(value) and not _is_input(value):
            raise LockError(
                f"{name} names {value[:80]!a}: a loader would read what is not locked",
                hint="name files of this input only, by relative paths",
            )


def shards(path: Path, name: str) -> list[str]:
    """The files that a weights index names; empty where `path`, named `name`, is none."""
    if not _INDEX.fullmatch(PurePosixPath(name).name):
        return []
    found = _json(path, name)
    return list(_strings(found.get("weight_map"))) if isinstance(found, dict) else []


def _is_input(value: str) -> bool:
    inside = PurePosixPath(value)
    plain = ".." not in inside.parts and not re.search(r"[\0-\x1f\x7f\\]|:", value)
    return plain and inside.is_relative_to(INPUTS) and inside != PurePosixPath(INPUTS)


def _named(path: Path, base: str) -> Iterator[str]:
    if _INDEX.fullmatch(base):
        yield from shards(path, base)
    elif base in _STATES:
        found = _json(path, base)
        for each in [found, *found.values()] if isinstance(found, dict) else []:
            if isinstance(each, dict):
                yield from _strings([each.get(key) for key in _STATE_KEYS])
    elif _CONFIG.fullmatch(base):
        for key, value in _pairs(_json(path, base)):
            if key.endswith(("_file", "_files")) or key in _NAMING:
                yield from _strings(value)
    elif base in (_CARD, _BARE_CARD):
        for key, value in _pairs(_yaml(path, base)):
            if key in ("data_files", "data_dir"):
                yield from _strings(value)


def _text(path: Path, name: str, most: int) -> str:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise LockError(f"{name} is larger than {most} bytes, and loaders take file names from it")
    return data.decode("utf-8", "replace")


def _json(path: Path, name: str) -> object:
    """The document; None where no loader reads it either."""
    try:
        value: object = json.loads(_text(path, name, _MAX_JSON))
    except (ValueError, RecursionError):
        return None
    return value


def _yaml(path: Path, base: str) -> object:
    text = _text(path, base, _MAX_JSON if base == _CARD else _MAX_YAML)
    if base == _CARD:
        header = _HEADER.match(text)
        if header is None:
            return None
        text = header[1]
        if len(text) > _MAX_YAML:
            raise LockError(f"{base} has a header of more than {_MAX_YAML} characters")
    try:
        value: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return value


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    """Every key and its value, at any depth."""
    for each in _inside(value):
        if isinstance(each, Mapping):
            yield from ((key, below) for key, below in each.items() if isinstance(key, str))


def _strings(value: object) -> Iterator[str]:
    return (each for each in _inside(value) if isinstance(each, str))


def _inside(value: object) -> Iterator[object]:
    """A value and all in it, each container once: YAML can put one into itself."""
    waiting: list[object] = [value]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        yield each
        if isinstance(each, Mapping | list | tuple | set) and id(each) not in seen:
            seen.add(id(each))
            below: Iterable[object] = each.values() if isinstance(each, Mapping) else each
            waiting.extend(below)
