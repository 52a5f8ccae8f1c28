"""Check JSON files of a model, tokenizer or adapter, and remove what the trainer must not read.

Loaders pass the keys of these files on to constructors, and some constructors open what a value
names. So at any depth, a text is refused if it looks like a path or an address or is the name of a
file, except under keys whose values are tokens, names of modules or text for people, and under keys
that may name a file, which must then be in the same folder. Leftovers from saving the model are
removed and reported, since nobody can edit a model on a hub. If something was removed, the trainer
reads a copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from aicert.errors import LockError

# The tokenizer of a large vocabulary has 33 MB, the index of 90,000 tensors 9 MB.
MAX_JSON = 1 << 26
MAX_TEMPLATE = 1 << 20

# Matches texts that may open something elsewhere: control characters, absolute paths, home folders,
# `..`, URL schemes, chained URLs.
_ELSEWHERE = re.compile(
    r"[\0-\x1f\x7f\\]|^\s*[/~]|(?:^|/)\.\.(?:/|$)|::|^\s*[A-Za-z][\w+.-]*:(?=\S)"
)
_PLAIN = re.compile(r"[A-Za-z0-9_][\w.+-]*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_INCLUDES = re.compile(r"\{%[-+]?\s*(include|import|from|extends)\b")

# The key that names classes in code that comes with the model.
_CLASSES = "auto_map"
# Keys left over from saving the model: they name files that are never opened, or code that is never
# loaded.
_LEFT_OVER = frozenset(
    (
        "_commit_hash",
        "_name_or_path",
        _CLASSES,
        "auto_mapping",
        "base_model_name_or_path",
        "custom_pipelines",
        "name_or_path",
        "revision",
        "special_tokens_map_file",
        "trust_remote_code",
    )
)
# Keys that name code from elsewhere, which a loader would look for in vain.
_CODE = frozenset(("custom_generate", "kernel_config", "use_kernels"))
# Keys that name models, weights and dictionaries in other formats, which a loader would look for by
# name: none of these files is shown.
_CLOSED = frozenset(
    (
        "backbone",
        "gguf_file",
        "jumanpp_kwargs",
        "mecab_kwargs",
        "mecab_option",
        "sudachi_kwargs",
        "use_pretrained_backbone",
        "use_timm_backbone",
    )
)
# Keys for which tokenizers' constructors take either a path or the file's content.
_OPENED = frozenset(("init_inputs", "merges", "tokenizer_object", "vocab"))
_FILE_KEY = re.compile(r".*_(?:files?|path|paths|dir|filename)|transformers_weights")
# The one of these keys that says which weights are loaded.
_WEIGHTS = "transformers_weights"
_SHARD = re.compile(r"[\w.-]+\.safetensors(?:\.index\.json)?", re.ASCII)
# Keys whose values are names of classes and functions: an identifier, or a dotted name in torch.
_NAMES = re.compile(
    r"architectures|model_type|(?:torch_)?dtype|.*(?:_class|_extractor_type|_processor_type)"
    r"|_?.*(?:attn|experts)_implementation(?:_internal)?"
)
# Keys whose values are tokens, names of modules, or text for people.
_FREE = re.compile(
    r".*_tokens?|added_tokens_decoder|response_schema|id2label|label2id|prefix|stop_strings"
    r"|problem_type|.*prompts?|ignore|targets?|modules_to_not_convert"
    r"|modules_in_block_to_quantize|llm_int8_skip_modules|target_modules|exclude_modules"
    r"|modules_to_save|target_parameters|layers_pattern|exclude(?:_layers)?|pat_str|pattern"
)
# Keys with tables of tokens by name. When Transformers saves, it writes each token beside the
# tokenizer's own keys, so a token with an unexpected name would become a key that was not checked.
_NAMED_TOKENS = frozenset(("extra_special_tokens", "model_specific_special_tokens"))
_TOKEN_NAME = re.compile(r"[A-Za-z0-9_]*_token")
# The files that tokenizers are saved in: a path elsewhere to such a file is a leftover too.
_SAVED = frozenset(
    (
        "added_tokens.json",
        "merges.txt",
        "sentencepiece.bpe.model",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer.json",
        "tokenizer.model",
        "vocab.json",
        "vocab.txt",
    )
)
_TEMPLATE = re.compile(r"(?:\w+_)?template")
# Neither the training environment nor the serving image has this package (ADR 60).
_NOT_LOADED = "compressed-tensors"
_TOKEN_KEY = re.compile(r".*_tokens?")
_ADAPTERS = ("LORA",)


class ModelFileRefused(LockError):  # noqa: N818 - says what happened
    """Raised for a model's file that would make a loader read something that is not locked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """A JSON file that passed the checks.

    `data`: what the trainer reads instead of the file; None if it reads the file itself.
    `removed`: dotted keys. `names`: files in the same folder that it names, which are read, too.
    """

    data: bytes | None
    removed: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def clean(
    kind: str,
    data: bytes,
    name: str,
    beside: frozenset[str],
    model_types: frozenset[str],
    *,
    own_code: bool = False,
) -> Cleaned:
    """Check `data`, the JSON file `name`, and remove leftovers.

    `beside`: the files in its folder. `model_types`: those for which the trainer has code.
    `own_code`: whether Python files in the folder are to run. Raises ModelFileRefused.
    """
    document = _Document(name=name, beside=beside, model_types=model_types, own_code=own_code)
    try:
        return _clean(kind, data, document)
    except RecursionError:
        raise ModelFileRefused(f"{name} is nested too deeply") from None


def refuse_template(text: str, name: str) -> None:
    """Raise ModelFileRefused if a chat template includes another, which is not locked."""
    word = included(text)
    if word is not None:
        raise ModelFileRefused(
            f"{name} is a template with `{word}`, which reads another file",
            hint="write the template in one piece",
        )


def included(template: str) -> str | None:
    """Return the word by which a template includes another one; None if it includes none."""
    match = _INCLUDES.search(template)
    return None if match is None else match[1]


def shards(data: bytes) -> list[str]:
    """Return the files that the weights index `data` names; empty if it is not an index."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return []
    named = value.get("weight_map") if isinstance(value, dict) else None
    shown = named.values() if isinstance(named, dict) else ()
    return sorted({each for each in shown if isinstance(each, str)})


class _Document:
    """A file that is being checked: what is beside it, and what was removed from it."""

    def __init__(
        self, *, name: str, beside: frozenset[str], model_types: frozenset[str], own_code: bool
    ) -> None:
        self.name = name
        self.left_over = _LEFT_OVER - {_CLASSES} if own_code else _LEFT_OVER
        self.own_code = own_code
        self.beside = beside
        self.model_types = model_types
        self.removed: list[str] = []
        self.names: list[str] = []

    def refuse(
        self, place: str, value: str, reason: str = "", *, hint: str = ""
    ) -> ModelFileRefused:
        why = reason or "a loader would read files that are not locked"
        return ModelFileRefused(
            f"{self.name}: {place} says {value[:80]!a}: {why}",
            hint=hint or "use a copy of the model without that key",
        )

    def unique(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        """Make an object of pairs; if a key appears twice, the last one counts, as in Python."""
        fields = dict(pairs)
        if len(fields) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.removed.append(f"{key[:80]} (appears twice)")
                seen.add(key)
        return fields


def _clean(kind: str, data: bytes, document: _Document) -> Cleaned:
    try:
        value: object = json.loads(data.decode(), object_pairs_hook=document.unique)
    except ValueError as error:
        raise ModelFileRefused(
            f"{document.name} cannot be read as JSON: {error}",
            hint="fetch it again: the download may be incomplete",
        ) from None
    if not isinstance(value, dict):
        raise ModelFileRefused(f"{document.name} is not a JSON object")
    KINDS[kind](value, document)
    copy = None
    if document.removed:
        # The copy is ASCII, so that it can be written whatever the file holds.
        copy = json.dumps(value, indent=2).encode() + b"\n"
    return Cleaned(data=copy, removed=tuple(document.removed), names=tuple(document.names))


def _settings(value: dict[str, object], document: _Document) -> None:
    _walk(value, document, "")


def _walk(value: object, document: _Document, place: str) -> None:
    """Check `value` at `place` and everything below it, and remove leftovers."""
    if isinstance(value, dict):
        for key in list(value):
            inner = f"{place}.{key}" if place else key
            if key in document.left_over and value[key] not in (None, "", False):
                del value[key]
                document.removed.append(inner[:200])
            else:
                _entry(key, value, document, inner)
    elif isinstance(value, list):
        for each in value:
            _walk(each, document, place)
    elif isinstance(value, str) and (_ELSEWHERE.search(value) or value in document.beside):
        raise document.refuse(place, value)


def _entry(key: str, within: dict[str, object], document: _Document, place: str) -> None:
    value = within[key]
    if _TEMPLATE.fullmatch(key):
        for text in _texts(value):
            refuse_template(text, f"{document.name}: {place}")
    elif key == _CLASSES:
        _classes(value, document, place)
    elif key in _CODE and value:
        raise document.refuse(place, str(value), "only the measured image's code may run")
    elif key in _CLOSED and value:
        why = "a loader would look for it, but it is not one of the files of a model"
        raise document.refuse(place, str(value), why)
    elif key in _OPENED:
        # Each value must be a table or a list; a loader would open a text.
        for text in _texts(value):
            raise document.refuse(place, text)
    elif _NAMES.fullmatch(key):
        for text in _texts(value):
            if not _IDENTIFIER.fullmatch(text):
                raise document.refuse(place, text, "it is not the name of a class or a function")
    elif _FILE_KEY.fullmatch(key):
        _file(key, within, document, place)
    elif key in _NAMED_TOKENS and isinstance(value, dict):
        _token_names(value, document, place)
    elif not _FREE.fullmatch(key):
        _walk(value, document, place)


def _file(key: str, within: dict[str, object], document: _Document, place: str) -> None:
    """Check a key whose value may name files in the same folder.

    A path that ends in the name of a tokenizer's file is a leftover from where the tokenizer was
    saved: loaders look for that name in the folder itself.
    """
    for text in _texts(within[key]):
        if key == _WEIGHTS and (text not in document.beside or not _SHARD.fullmatch(text)):
            raise document.refuse(place, text, "the input holds no such safetensors file beside it")
        if text in document.beside:
            document.names.append(text)
        elif key.endswith("_file") and text.rpartition("/")[2] in _SAVED and within[key] == text:
            del within[key]
            document.removed.append(place[:200])
            return
        elif not _PLAIN.fullmatch(text):
            raise document.refuse(place, text)


def _refuse_code(value: dict[str, object], document: _Document) -> None:
    """Refuse a model that needs code which comes with it, unless that code is to run.

    If the image has code for this type of model, the key for such code is only a leftover.
    """
    kind = value.get("model_type")
    known = not isinstance(kind, str) or kind in document.model_types
    if value.get(_CLASSES) and not known and not document.own_code:
        raise document.refuse(
            "model_type",
            str(kind),
            "the model needs code that comes with it, but only the image's code may run",
            hint="read its *.py files, then set `allow-remote-code = true` at the input",
        )


def _classes(value: object, document: _Document, place: str) -> None:
    """Check that classes of the input's own code are in files of the same folder."""
    for text in _texts(value):
        module = re.fullmatch(r"([A-Za-z_]\w*)\.[A-Za-z_]\w*", text, re.ASCII)
        if module is None or f"{module[1]}.py" not in document.beside:
            why = "only code in the same folder may run, named as FILE.CLASS"
            hint = "lock a copy that has the code in its folder"
            raise document.refuse(place, text, why, hint=hint)


def _config(value: dict[str, object], document: _Document) -> None:
    _refuse_code(value, document)
    _walk(value, document, "")
    quantisation = value.get("quantization_config")
    if isinstance(quantisation, dict) and quantisation.get("quant_method") == _NOT_LOADED:
        why = "nothing here can load such numbers: no image has that package for its models"
        hint = "name the model before quantisation, then ./doit lock"
        raise document.refuse("quantization_config", _NOT_LOADED, why, hint=hint)


def _token_names(tokens: dict[str, object], document: _Document, place: str) -> None:
    for name in tokens:
        if not _TOKEN_NAME.fullmatch(name):
            raise document.refuse(place, name, "the name of a token ends in _token")


def _special_tokens(value: dict[str, object], document: _Document) -> None:
    """Check a file of special tokens: only tokens are accepted.

    Its keys are passed to the tokenizer last and override all others.
    """
    for key, each in value.items():
        if key in _NAMED_TOKENS and isinstance(each, dict):
            _token_names(each, document, key)
        if not _TOKEN_KEY.fullmatch(key):
            text = next(_texts(each), None)
            if text is not None or key in _OPENED | _LEFT_OVER or _FILE_KEY.fullmatch(key):
                raise document.refuse(key, text or "", "this file may hold only special tokens")
            _walk(each, document, key)


def _numbers(value: dict[str, object], document: _Document) -> None:
    """Check a file that maps tokens to their numbers."""
    for key, number in value.items():
        if type(number) is not int:
            raise ModelFileRefused(f"{document.name}: the token {key[:80]!a} has no ID")


def _tokenizer(value: dict[str, object], document: _Document) -> None:
    """Check that vocabulary and merges are tables or lists.

    The loader passes these two on; it reads everything else from the file itself.
    """
    model = value.get("model")
    if model is not None and not isinstance(model, dict):
        raise ModelFileRefused(f"{document.name}: model is not a JSON object")
    for key, kinds in (("vocab", (dict, list)), ("merges", (list,))):
        below = (model or {}).get(key)
        if below is not None and not isinstance(below, kinds):
            raise document.refuse(f"model.{key}", str(below))


def _tekken(value: dict[str, object], document: _Document) -> None:
    """Check a Mistral tokenizer, except its vocabulary, which holds bytes as text."""
    vocabulary = value.pop("vocab", None)
    _walk(value, document, "")
    value["vocab"] = vocabulary


def _index(value: dict[str, object], document: _Document) -> None:
    weights = value.get("weight_map")
    if not isinstance(weights, dict):
        raise ModelFileRefused(f"{document.name} has no weight_map")
    for name in sorted({str(each) for each in weights.values()}):
        if not _PLAIN.fullmatch(name) or name not in document.beside:
            raise document.refuse("weight_map", name, "the input holds no such file beside it")
        document.names.append(name)


def _adapter(value: dict[str, object], document: _Document) -> None:
    if value.get("peft_type") not in _ADAPTERS:
        raise document.refuse(
            "peft_type", str(value.get("peft_type")), f"only {', '.join(_ADAPTERS)} is supported"
        )
    if value.get("megatron_config"):
        raise document.refuse("megatron_config", "…", "it imports a module by its name")
    _walk(value, document, "")


KINDS: Mapping[str, Callable[[dict[str, object], _Document], None]] = {
    "config": _config,
    "settings": _settings,
    "special-tokens": _special_tokens,
    "numbers": _numbers,
    "tokenizer": _tokenizer,
    "tekken": _tekken,
    "index": _index,
    "adapter": _adapter,
}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
