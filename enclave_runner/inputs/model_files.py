"""Select the files of a model, tokenizer or adapter that the trainer sees, and check them.

The tables list what Transformers, PEFT and their tokenizers open by name in the training
environment (`docs/spec/models.md`). Everything else (cards, code, other formats) does not exist for
the trainer. JSON files are checked and, if they hold leftovers, replaced by a copy without these
(`model_json`); weights are checked for their real format (`pickles`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aicert.errors import ConfigError
from aicert.formats import safetensors
from enclave_runner.inputs import model_json
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.model_json import MAX_JSON, MAX_TEMPLATE, ModelFileRefused
from enclave_runner.inputs.pickles import (
    WeightsRefused,
    refuse_lfs_pointer,
    refuse_pickle,
    weights_header,
)
from enclave_runner.inputs.references import Reference

_INDEX = "model.safetensors.index.json"
_PICKLED_INDEX = "pytorch_model.bin.index.json"
_TEMPLATES = "additional_chat_templates"
_TOKENIZER: Sequence[tuple[str, str]] = (
    # AutoTokenizer takes the kind of tokenizer from the model's config.
    (r"config(?:\.\d+\.\d+\.\d+)?\.json", "config"),
    (r"tokenizer_config\.json", "settings"),
    (r"special_tokens_map\.json", "special-tokens"),
    (r"added_tokens\.json|vocab\.json", "numbers"),
    (r"tokenizer(?:\.\d+\.\d+\.\d+)?\.json", "tokenizer"),
    (r"tekken\.json", "tekken"),
    (r"chat_template\.json", "settings"),
    (rf"chat_template\.jinja|{_TEMPLATES}/[\w.-]+\.jinja", "template"),
    (r"merges\.txt|vocab\.txt|tiktoken\.model|tokenizer\.model(?:\.v\d+)?", "data"),
    (r"sentencepiece(?:\.bpe)?\.model|spiece\.model|spm(?:_char)?\.model", "data"),
    (r"(?:source|target)\.spm", "data"),
)
# Kinds of files in which each key decides something by itself, so that reports name each key.
_BY_KEY = frozenset(("settings", "tokenizer"))
_MODEL: Sequence[tuple[str, str]] = (
    *_TOKENIZER,
    (r"generation_config\.json", "settings"),
    (r"(?:video_)?(?:pre)?processor_config\.json", "settings"),
    (r"model(?:-\d+-of-\d+)?\.safetensors", "weights"),
    (re.escape(_INDEX), "index"),
)
_ADAPTER: Sequence[tuple[str, str]] = (
    (r"adapter_config\.json", "adapter"),
    (r"adapter_model\.safetensors", "weights"),
)
_TABLES = {"model": _MODEL, "tokenizer": _TOKENIZER, "adapter": _ADAPTER}
# Files that the trainer sees only with `allow-pickle`.
_PICKLED: Mapping[str, Sequence[tuple[str, str]]] = {
    "model": (
        (r"pytorch_model(?:-\d+-of-\d+)?\.bin", "weights"),
        (re.escape(_PICKLED_INDEX), "index"),
    ),
    "adapter": ((r"adapter_model\.bin", "weights"),),
}
# Files that the trainer sees only with `allow-remote-code`, and only beside the model's config.
_CODE: Sequence[tuple[str, str]] = ((r"[A-Za-z_]\w*\.py", "code"),)
MAX_CODE = 1 << 20
MAX_CODE_FILES = 64
# Files without which a loader would ask a hub, or take the folder for something else.
NEEDED = {"model": "config.json", "adapter": "adapter_config.json"}
_WEIGHTS = {"model": "model", "adapter": "adapter_model"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFiles:
    """The model files that the trainer sees.

    `shown`: place below the inputs, as `NAME/PATH` → the file that is shown there. `removed`:
    `NAME/PATH: KEY` for each key that the copies lack. `code`: SHA-256 of each Python file among
    them, which may run in the trainer.
    """

    shown: Mapping[str, Path]
    removed: tuple[str, ...]
    code: tuple[str, ...] = ()


def prepare(
    references: Iterable[Reference],
    measured: Iterable[MeasuredInput],
    allow_pickle: frozenset[str],
    folder: Path,
    *,
    model_types: frozenset[str],
    allow_code: frozenset[str] = frozenset(),
) -> ModelFiles:
    """Check and select the files that `references` show to the trainer, except rows.

    Cleaned copies are written below `folder`. `allow_pickle`: names of inputs with `allow-pickle`.
    `model_types`: those for which the trainer has code. `allow_code`: names of inputs whose own
    code is to run. Raises LockError or ConfigError.
    """
    by_name = {item.name: item for item in measured}
    view = _View(folder=folder, model_types=model_types, with_code=allow_code)
    files = []
    for reference in references:
        item = by_name[reference.name]
        if reference.role in _TABLES:
            _show(reference, item, view, pickles=item.name in allow_pickle)
        elif reference.role == "file":
            files.append(reference)
    # Single files come last, so that none of them is shown where a loader of models would look,
    # unless it was checked for that loader.
    for reference in files:
        _show_file(reference, by_name[reference.name], view)
    return ModelFiles(
        shown=view.shown, removed=tuple(sorted(view.removed)), code=tuple(sorted(view.code))
    )


@dataclass(kw_only=True, slots=True)
class _View:
    folder: Path
    model_types: frozenset[str]
    with_code: frozenset[str] = frozenset()
    shown: dict[str, Path] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    code: set[str] = field(default_factory=set)
    # The folders of each input that loaders are given.
    roots: dict[str, set[str]] = field(default_factory=dict)
    tensors: int = 0


def _show(reference: Reference, item: MeasuredInput, view: _View, *, pickles: bool) -> None:
    role, inside = reference.role, reference.inside
    if item.is_file:
        raise ConfigError(
            f"config: {reference.key}: input {item.name!r} is a file, but a {role} is a folder"
        )
    if inside in item.files:
        root, _, only = inside.rpartition("/")
    else:
        root, only = inside, ""
    prefix = f"{root}/" if root else ""
    view.roots.setdefault(item.name, set()).add(prefix)
    below = {path[len(prefix) :] for path in item.files if path.startswith(prefix)}
    tables = (*_TABLES[role], *(_PICKLED.get(role, ()) if pickles else ()))
    if item.name in view.with_code and role != "adapter":
        tables = (*tables, *_CODE)
    kinds = _kinds({only} if only else below, tables)
    if only and only not in kinds:
        raise ModelFileRefused(
            f"{item.name}/{inside} is not one of the files from which a {role} is loaded"
        )
    beside = frozenset(name for name in below if "/" not in name)
    _need(role, item.name, prefix, kinds, only or None)
    waiting = sorted(kinds)
    while waiting:
        name = waiting.pop()
        path = prefix + name
        names = _show_one(item, path, kinds[name], beside, view, pickles=pickles)
        for named in names if kinds[name] in ("config", "index", "settings") else ():
            if named not in kinds and re.fullmatch(r".*\.safetensors(?:\.index\.json)?", named):
                kinds[named] = "index" if named.endswith(".json") else "weights"
                waiting.append(named)
    if not only:
        _need_weights(role, item, prefix, kinds, below)


def _show_file(reference: Reference, item: MeasuredInput, view: _View) -> None:
    """Show one file that a key of the config names by itself: a chat template, or settings."""
    if reference.inside not in item.files:
        raise ConfigError(f"config: {reference.key} names a folder, but takes a file")
    place = f"{item.name}/{reference.inside}" if reference.inside else item.name
    among = reference.inside.startswith(tuple(view.roots.get(item.name, ())))
    if among and place not in view.shown:
        raise ModelFileRefused(
            f"config: {reference.key}: {place} lies in a folder that a model is loaded from, "
            "and loaders would find it there by its name",
            hint="lock the file as an input of its own",
        )
    kind = "template" if reference.key.endswith("chat_template_jinja") else "settings"
    _show_one(item, reference.inside, kind, frozenset(), view, pickles=False)


def tokenizer_texts(names: Iterable[str]) -> dict[str, bool]:
    """Return the tokenizer files among `names`, with True for JSON that is named key by key.

    Each of them can decide which text is trained on, since a template may write a token's text, and
    a vocabulary may spell other words. In JSON named key by key, each key has a meaning of its own.
    """
    kinds = _kinds(names, _TOKENIZER)
    return {name: kind in _BY_KEY for name, kind in kinds.items() if kind != "config"}


def _kinds(names: Iterable[str], table: Iterable[tuple[str, str]]) -> dict[str, str]:
    rules = [(re.compile(pattern, re.ASCII), kind) for pattern, kind in table]
    return {name: kind for name in names for pattern, kind in rules if pattern.fullmatch(name)}


def _need(role: str, name: str, prefix: str, kinds: Mapping[str, str], only: str | None) -> None:
    needed = NEEDED.get(role)
    if only is None and needed is not None and needed not in kinds:
        raise ModelFileRefused(
            f"input {name} holds no {prefix}{needed}, which every {role} has",
            hint="let `from` name the whole model, then ./doit lock",
        )


def _need_weights(
    role: str, item: MeasuredInput, prefix: str, kinds: Mapping[str, str], below: Iterable[str]
) -> None:
    """Refuse an input whose only weights are pickles; a config without weights may be intended."""
    if role not in _WEIGHTS or "weights" in kinds.values():
        return
    for name in sorted(below):
        if "/" not in name:
            refuse_pickle(item.path / (prefix + name), f"{item.name}/{prefix}{name}")


def _show_one(
    item: MeasuredInput, path: str, kind: str, beside: frozenset[str], view: _View, *, pickles: bool
) -> tuple[str, ...]:
    """Check one file, show it or its copy, and return the files that it names."""
    place = f"{item.name}/{path}" if path else item.name
    source = item.path / path
    refuse_lfs_pointer(source, place)
    if not pickles:
        refuse_pickle(source, place)
    if kind == "weights" and safetensors.is_named(path):
        _count(weights_header(source, place), place, view)
    view.shown.setdefault(place, source)
    if kind in ("weights", "data"):
        return ()
    if kind == "code":
        _take_code(item, path, place, view)
        return ()
    data = _read(item, path, place, MAX_TEMPLATE if kind == "template" else MAX_JSON)
    if kind == "template":
        _check_template(data, place)
        return ()
    own_code = item.name in view.with_code
    cleaned = model_json.clean(kind, data, place, beside, view.model_types, own_code=own_code)
    if cleaned.data is not None:
        copy = view.folder / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(cleaned.data)
        view.shown[place] = copy
    view.removed |= {f"{place}: {key}" for key in cleaned.removed}
    return cleaned.names


def _take_code(item: MeasuredInput, path: str, place: str, view: _View) -> None:
    """Admit one Python file, by the digest of its bytes."""
    _read(item, path, place, MAX_CODE)
    view.code.add(item.files[path].sha256)
    if len(view.code) > MAX_CODE_FILES:
        raise ModelFileRefused(f"{place}: the model has more than {MAX_CODE_FILES} Python files")


def _count(header: safetensors.Header, place: str, view: _View) -> None:
    """Count tensors, and refuse more of them than a single safetensors file may have.

    A trainer may save all of them in one file, which nobody could then read.
    """
    view.tensors += header.tensors
    if view.tensors > safetensors.MAX_TENSORS:
        raise WeightsRefused(
            f"{place}: the weights have more than {safetensors.MAX_TENSORS:,} tensors, "
            "and those that training makes of them could not be read"
        )


def _check_template(data: bytes, place: str) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ModelFileRefused(f"{place} is a template that is not UTF-8") from None
    model_json.refuse_template(text, place)


def _read(item: MeasuredInput, path: str, place: str, most: int) -> bytes:
    """Read a file of an input, and check that its bytes are the ones that were measured."""
    fact = item.files[path]
    if fact.size > most:
        raise ModelFileRefused(f"{place} has {fact.size:,} bytes, more than {most:,}")
    with (item.path / path).open("rb") as file:
        data = file.read(most + 1)
    if hashlib.sha256(data).hexdigest() != fact.sha256:
        raise ModelFileRefused(f"{place} changed while it was read")
    return data
