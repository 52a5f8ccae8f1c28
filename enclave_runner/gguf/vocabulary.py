"""Say what a GGUF file must hold of a model's tokenizer, from the model's own files.

The rules are those of llama.cpp's converter for a model with a SentencePiece `tokenizer.model`
(`_create_vocab_sentencepiece` in `conversion/base.py`, `SpecialVocab` in `gguf/vocab.py`), without
its guesses: a token outside the vocabulary is refused here, and left out with a warning there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aicert.errors import EvidenceError, LockError
from aicert.formats.gguf import Scalar, Value
from enclave_runner.gguf import pieces
from enclave_runner.mergekit.stored import rounded

_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
# The types of tokens for which llama.cpp searches a text before it looks at pieces.
_FIRST = frozenset((pieces.UNKNOWN, pieces.CONTROL, pieces.USER_DEFINED))
_MARK = "\u2581"  # SentencePiece's space
# What the converter gives tokens that no file scores.
_ADDED_SCORE, _PADDING_SCORE = -1000.0, -10000.0
# Tokens that the converter takes for control tokens, whatever a file calls them.
_CONTROL = frozenset(("<pad>", "<mask>", "<2mass>", "[@BOS@]"))
_CONTROL_ENDS = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
# Sizes of vocabularies for which the converter writes more than these files say.
_SPECIAL_SIZES = frozenset((32016, 49152))
_ADDED = "added_tokens_decoder"
_NUMBERED = ("bos", "eos", "unk", "sep", "pad", "mask")
_SWITCHED = ("bos", "eos", "sep")


@dataclass(kw_only=True, slots=True)
class _Vocabulary:
    size: int
    tokens: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = [f"[PAD{number}]" for number in range(self.size)]
        self.scores = [_PADDING_SCORE] * self.size
        self.types = [pieces.UNUSED] * self.size

    def put(self, number: object, token: str, score: float, kind: int) -> None:
        if type(number) is not int or not 0 <= number < self.size:
            raise _refusal(f"token {token[:80]!a} has no number below vocab_size, {self.size}")
        self.tokens[number], self.scores[number], self.types[number] = token, score, kind


def values(
    size: int,
    model: bytes,
    config: Mapping[str, object],
    settings: Mapping[str, object],
    added: Mapping[str, object],
    template: str | None,
) -> dict[str, Value]:
    """Return what the file's keys must say. Raises LockError for what the file could not say.

    `size`: the config's `vocab_size`. `model`: `tokenizer.model`. `settings`, `added`: what
    `tokenizer_config.json` and `added_tokens.json` hold. `template`: `chat_template.jinja`.
    """
    if size in _SPECIAL_SIZES:
        raise _refusal(f"a vocabulary of {size} tokens is one for which the converter guesses")
    vocabulary = _Vocabulary(size=size)
    try:
        read = pieces.read(model)
    except EvidenceError as error:
        raise _refusal(f"tokenizer.model: {error.message}") from None
    for place, piece in enumerate(read):
        kind = pieces.NORMAL if piece.type == pieces.USER_DEFINED else piece.type
        vocabulary.put(place, piece.text, piece.score, kind)
    for token, number in added.items():
        vocabulary.put(number, token, _ADDED_SCORE, pieces.USER_DEFINED)
    for text, entry in _mapping(settings.get(_ADDED, {})).items():
        _add(vocabulary, text, _mapping(entry))
    return {
        "tokenizer.ggml.model": Value(type="STRING", data="llama"),
        "tokenizer.ggml.pre": Value(type="STRING", data="default"),
        _TOKENS: _array("STRING", vocabulary.tokens),
        "tokenizer.ggml.scores": _array(
            "FLOAT32", [rounded(score, "F32") for score in vocabulary.scores]
        ),
        _TYPES: _array("INT32", vocabulary.types),
        **_special(size, config, settings),
        **_template(settings, template),
    }


def searched_first(written: Mapping[str, Value]) -> dict[int, str]:
    """Return the tokens that are no ordinary pieces, by number, of what `values` returned."""
    tokens, types = (written[key].data for key in (_TOKENS, _TYPES))
    if not isinstance(tokens, tuple) or not isinstance(types, tuple):
        raise TypeError("tokens and their types are lists")
    pairs = enumerate(zip(tokens, types, strict=True))
    return {number: str(token) for number, (token, kind) in pairs if kind in _FIRST}


def _add(vocabulary: _Vocabulary, number: str, entry: Mapping[str, object]) -> None:
    token, is_special = entry.get("content"), entry.get("special", False)
    if not isinstance(token, str) or not isinstance(is_special, bool) or not number.isdecimal():
        raise _refusal(f"tokenizer_config.json: {_ADDED} has an entry that is no token")
    if is_special or _looks_special(token):
        kind = pieces.CONTROL
    else:
        token, kind = token.replace(_MARK, " "), pieces.USER_DEFINED
    vocabulary.put(int(number), token, _ADDED_SCORE, kind)


def _looks_special(token: str) -> bool:
    return token in _CONTROL or any(
        token.startswith(first) and token.endswith(last) for first, last in _CONTROL_ENDS
    )


def _special(
    size: int, config: Mapping[str, object], settings: Mapping[str, object]
) -> dict[str, Value]:
    """Return the numbers of the tokens for beginning and end, and where they are added."""
    special: dict[str, Value] = {}
    for name in _NUMBERED:
        number = config.get(f"{name}_token_id")
        if number is None:
            continue
        if type(number) is not int or not 0 <= number < size:
            raise _refusal(f"{name}_token_id in its config is not one token's number")
        key = {"unk": "unknown", "sep": "seperator", "pad": "padding"}.get(name, name)
        special[f"tokenizer.ggml.{key}_token_id"] = Value(type="UINT32", data=number)
    switches = {f"add_{name}_token": f"add_{name}_token" for name in _SWITCHED}
    switches["add_prefix_space"] = "add_space_prefix"
    for key, written in switches.items():
        value = settings.get(key)
        if value is None:
            continue
        if not isinstance(value, bool):
            raise _refusal(f"tokenizer_config.json: {key} is neither true nor false")
        special[f"tokenizer.ggml.{written}"] = Value(type="BOOL", data=value)
    return special


def _template(settings: Mapping[str, object], beside: str | None) -> dict[str, Value]:
    """Return the chat template. The converter reads one beside the settings if they have none,
    whereas Transformers takes the one beside them.
    """
    template = settings.get("chat_template", beside if settings else None)
    if beside is not None and template != beside:
        raise _refusal(
            "chat_template.jinja, which Transformers reads, is not the template of "
            "tokenizer_config.json, which the converter reads"
        )
    if template is None:
        return {}
    if not isinstance(template, str):
        raise _refusal("tokenizer_config.json: chat_template is not one template")
    return {"tokenizer.chat_template": Value(type="STRING", data=template)}


def _array(kind: str, items: list[Scalar] | list[str] | list[float] | list[int]) -> Value:
    return Value(type=f"[{kind}]", data=tuple(items))


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _refusal(f"tokenizer_config.json: {_ADDED} is no mapping")
    return value


def _refusal(why: str) -> LockError:
    return LockError(f"the model's tokenizer cannot be converted: {why}")
