"""JSON files of a model, tokenizer or adapter: what the trainer may read of them.

Loaders hand these files' keys on to constructors, and some of those open what a value says. So
every text is refused that looks like a path or an address or is the name of a file, at any depth,
but for keys whose values are tokens, names of modules or text for people, and for keys that may
name a file, which must then lie beside. Left-overs of whoever saved the model are removed and told:
a model from a hub cannot be edited. Where something was removed the trainer reads a copy, `data`.
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

# What opens something elsewhere: control characters, absolute, a home, upwards, a scheme, a chain.
_ELSEWHERE = re.compile(
    r"[\0-\x1f\x7f\\]|^\s*[/~]|(?:^|/)\.\.(?:/|$)|::|^\s*[A-Za-z][\w+.-]*:(?=\S)"
)
_PLAIN = re.compile(r"[A-Za-z0-9_][\w.+-]*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_INCLUDES = re.compile(r"\{%[-+]?\s*(include|import|from|extends)\b")

# Classes in code that comes with the model.
_CLASSES = "auto_map"
# Left by whoever saved the model: never opened, or code that is never loaded.
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
# Code from elsewhere that a loader would look for and miss.
_CODE = frozenset(("custom_generate", "kernel_config", "use_kernels"))
# Models, weights and dictionaries of other forms, which a loader looks for by name, in settings of
# its own: none is a file that is shown.
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
# Constructors of tokenizers take a path here as well as what it holds.
_OPENED = frozenset(("init_inputs", "merges", "tokenizer_object", "vocab"))
_FILE_KEY = re.compile(r".*_(?:files?|path|paths|dir|filename)|transformers_weights")
# Of these one that says which weights are loaded.
_WEIGHTS = "transformers_weights"
_SHARD = re.compile(r"[\w.-]+\.safetensors(?:\.index\.json)?", re.ASCII)
# Names of classes and functions: an identifier, or one of torch's.
_NAMES = re.compile(
    r"architectures|model_type|(?:torch_)?dtype|.*(?:_class|_extractor_type|_processor_type)"
    r"|_?.*(?:attn|experts)_implementation(?:_internal)?"
)
# Values that are tokens, names of modules, or text that is written for people.
_FREE = re.compile(
    r".*_tokens?|added_tokens_decoder|response_schema|id2label|label2id|prefix|stop_strings"
    r"|problem_type|.*prompts?|ignore|targets?|modules_to_not_convert"
    r"|modules_in_block_to_quantize|llm_int8_skip_modules|target_modules|exclude_modules"
    r"|modules_to_save|target_parameters|layers_pattern|exclude(?:_layers)?|pat_str|pattern"
)
# Tables of tokens by name. Transformers writes each beside the tokenizer's own keys when it saves,
# so that a token of another name would be one of these, which no check has seen.
_NAMED_TOKENS = frozenset(("extra_special_tokens", "model_specific_special_tokens"))
_TOKEN_NAME = re.compile(r"[A-Za-z0-9_]*_token")
# What tokenizers are saved in: a path to one of these names, elsewhere, is left over as well.
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
_TOKEN_KEY = re.compile(r".*_tokens?")
_ADAPTERS = ("LORA",)


class ModelFileRefused(LockError):  # noqa: N818 - says what happened
    """A file of a model would send a loader to what is not locked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """`data`: what the trainer reads in place of the file, None if that is the file itself.

    `removed`: dotted keys. `names`: files beside it that it names, and that are then read.
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
    """What of `data`, the JSON file `name`, the trainer reads; `beside`: the files in its folder.

    `model_types`: those whose code the trainer has itself; `own_code`: whether the Python that lies
    beside is to run. Raises ModelFileRefused.
    """
    document = _Document(name=name, beside=beside, model_types=model_types, own_code=own_code)
    try:
        return _clean(kind, data, document)
    except RecursionError:
        raise ModelFileRefused(f"{name} is nested too deeply") from None


def refuse_template(text: str, name: str) -> None:
    """Raise where a chat template takes in another: none can be loaded, and none is locked."""
    word = included(text)
    if word is not None:
        raise ModelFileRefused(
            f"{name} is a template with `{word}`, which reads another file",
            hint="write the template in one piece",
        )


def included(template: str) -> str | None:
    """The word by which a template takes in another; None if it does not."""
    match = _INCLUDES.search(template)
    return None if match is None else match[1]


def shards(data: bytes) -> list[str]:
    """The files that the index of weights `data` names; empty where it is no index."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return []
    named = value.get("weight_map") if isinstance(value, dict) else None
    shown = named.values() if isinstance(named, dict) else ()
    return sorted({each for each in shown if isinstance(each, str)})


class _Document:
    """One file while it is read: what is beside it, and what was removed of it."""

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
        """Of a key that is there twice the last counts, as for Python's readers."""
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
        # ASCII, so that it can be written whatever the file holds.
        copy = json.dumps(value, indent=2).encode() + b"\n"
    return Cleaned(data=copy, removed=tuple(document.removed), names=tuple(document.names))


def _settings(value: dict[str, object], document: _Document) -> None:
    _walk(value, document, "")


def _walk(value: object, document: _Document, place: str) -> None:
    """Check `value` at `place` and all below, and take out what is left over."""
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
        raise document.refuse(
            place, str(value), "a loader would look for what is no file of a model"
        )
    elif key in _OPENED:
        # Each is a table or a list of what it holds; a text in it would be opened.
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
    """A key whose value may name files: they lie beside. A path to a file of a tokenizer's own
    name is left over from where it was saved: loaders look beside, for that name.
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
    """Code that comes with a model is never loaded: it is left over where the image has its own."""
    kind = value.get("model_type")
    known = not isinstance(kind, str) or kind in document.model_types
    if value.get(_CLASSES) and not known and not document.own_code:
        raise document.refuse(
            "model_type",
            str(kind),
            "its code comes with the model, but only the image's code may run",
            hint="read its *.py, then say `allow-remote-code = true` at the input",
        )


def _classes(value: object, document: _Document, place: str) -> None:
    """Classes of the input's own code: each in a file that lies beside, and is locked with it."""
    for text in _texts(value):
        module = re.fullmatch(r"([A-Za-z_]\w*)\.[A-Za-z_]\w*", text, re.ASCII)
        if module is None or f"{module[1]}.py" not in document.beside:
            why = "only code that lies beside it may run, as FILE.CLASS"
            raise document.refuse(place, text, why, hint="lock a copy with the code in its folder")


def _config(value: dict[str, object], document: _Document) -> None:
    _refuse_code(value, document)
    _walk(value, document, "")


def _token_names(tokens: dict[str, object], document: _Document, place: str) -> None:
    for name in tokens:
        if not _TOKEN_NAME.fullmatch(name):
            raise document.refuse(place, name, "the name of a token ends in _token")


def _special_tokens(value: dict[str, object], document: _Document) -> None:
    """Its keys are handed to the tokenizer last, over all else: only tokens are taken."""
    for key, each in value.items():
        if key in _NAMED_TOKENS and isinstance(each, dict):
            _token_names(each, document, key)
        if not _TOKEN_KEY.fullmatch(key):
            text = next(_texts(each), None)
            if text is not None or key in _OPENED | _LEFT_OVER or _FILE_KEY.fullmatch(key):
                raise document.refuse(key, text or "", "this file holds special tokens only")
            _walk(each, document, key)


def _numbers(value: dict[str, object], document: _Document) -> None:
    """Tokens and their numbers."""
    for key, number in value.items():
        if type(number) is not int:
            raise ModelFileRefused(f"{document.name}: the token {key[:80]!a} has no ID")


def _tokenizer(value: dict[str, object], document: _Document) -> None:
    """All of it is read from the file itself, but vocabulary and merges, which are handed on."""
    model = value.get("model")
    if model is not None and not isinstance(model, dict):
        raise ModelFileRefused(f"{document.name}: model is not a JSON object")
    for key, kinds in (("vocab", (dict, list)), ("merges", (list,))):
        below = (model or {}).get(key)
        if below is not None and not isinstance(below, kinds):
            raise document.refuse(f"model.{key}", str(below))


def _tekken(value: dict[str, object], document: _Document) -> None:
    """A vocabulary of Mistral's, whose bytes stand in it as text."""
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
