"""Check that a model's `tokenizer.json` splits texts as its `tokenizer.model` does.

A GGUF file has the second, but Transformers reads the first where there is one. So a model could be
trained and evaluated with one tokenizer and converted with another. The rules are those by which
Transformers makes the first from the second (`SentencePieceExtractor` and `generate_merges`): each
piece keeps its number, and each two pieces that make a third are a merge, best scores first.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from aicert.errors import LockError
from enclave_runner.gguf.pieces import BYTE, NORMAL, Piece

NAME = "tokenizer.json"
_MARK = "\u2581"  # SentencePiece's space
# What else Transformers would read of a tokenizer, in place of or beside the files that are
# compared.
_OTHERS = frozenset(
    (
        "chat_template.json", "merges.txt", "sentencepiece.bpe.model", "sentencepiece.model",
        "source.spm", "spiece.model", "spm.model", "spm_char.model", "target.spm", "tekken.json",
        "tiktoken.model", "vocab.json", "vocab.txt",
    )
)  # fmt: skip
_TEMPLATES = "additional_chat_templates/"
_CLASSES = frozenset(
    (None, "LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
)
_PREPENDED = {"type": "Prepend", "prepend": _MARK}
_REPLACED = {"type": "Replace", "pattern": {"String": " "}, "content": _MARK}
# How a space becomes SentencePiece's: both forms that Transformers has written.
_NORMALIZERS: Sequence[object] = (
    {"type": "Sequence", "normalizers": [_PREPENDED, _REPLACED]},
    {"type": "Sequence", "normalizers": [_REPLACED]},
    _REPLACED,
)
_METASPACE = {"type": "Metaspace", "replacement": _MARK, "split": False}
_SCHEMES = ("always", "first", "never")
# Ways to search for an added token that a GGUF file cannot say.
_ODD = ("lstrip", "rstrip", "single_word")
_PLAIN: Mapping[str, Sequence[object]] = {
    "type": ("BPE",),
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "ignore_merges": (None, False),
}


def check_files(paths: Sequence[str], settings: Mapping[str, object]) -> None:
    """Refuse a model with other files of a tokenizer, or whose `settings` choose another kind."""
    for path in sorted(paths):
        if path in _OTHERS or path.startswith(_TEMPLATES):
            raise _refusal(f"{path[:80]!a} is not in a GGUF file, but Transformers would read it")
    kind = settings.get("tokenizer_class")
    if not (kind is None or isinstance(kind, str)) or kind not in _CLASSES:
        raise _refusal(f"tokenizer_config.json says that it is a {str(kind)[:80]!a}")


def check(document: Mapping[str, object], pieces: Sequence[Piece], own: Mapping[int, str]) -> None:
    """Refuse a `tokenizer.json` that is not made from these pieces.

    `own`: the tokens for which the file lets texts be searched first, by number. Raises LockError.
    """
    model = document.get("model")
    if not isinstance(model, dict) or any(
        model.get(key) not in allowed for key, allowed in _PLAIN.items()
    ):
        raise _differs("its model is not plain BPE")
    if (model.get("byte_fallback") is True) != any(piece.type == BYTE for piece in pieces):
        raise _differs("only one of them falls back to bytes")
    _check_spaces(document)
    texts = {piece.text: number for number, piece in enumerate(pieces)}
    if model.get("vocab") != texts or len(texts) < len(pieces):
        raise _differs("its vocabulary is not the pieces of the other")
    _check_added(document.get("added_tokens"), own)
    _check_merges(model.get("merges"), {piece.text: piece for piece in pieces})


def _check_spaces(document: Mapping[str, object]) -> None:
    before, splits = document.get("normalizer"), document.get("pre_tokenizer")
    if splits is None and before in _NORMALIZERS:
        return
    own = dict(splits) if isinstance(splits, dict) else {}
    scheme = own.pop("prepend_scheme", "always")
    if before is not None or scheme not in _SCHEMES or own != _METASPACE:
        raise _differs("it changes or splits texts before it looks for tokens")


def _check_added(added: object, own: Mapping[int, str]) -> None:
    """Refuse tokens for which texts are searched first, and are not in the file, or in another way:
    an ordinary piece among them would split every text.
    """
    for each in added if isinstance(added, list) else [added]:
        entry = each if isinstance(each, dict) else {}
        number, text = entry.get("id"), entry.get("content")
        token = own.get(number) if type(number) is int else None
        # The file has spaces in added tokens as they are.
        is_same = isinstance(text, str) and token in (text, text.replace(_MARK, " "))
        if not is_same or any(entry.get(key) for key in _ODD):
            raise _differs(f"its added token {str(text)[:80]!a} is none of the file's")


def _check_merges(merges: object, pieces: Mapping[str, Piece]) -> None:
    """Compare the merges with all that the pieces give. Those of pieces that are no plain text, or
    that have no score, may be missing.
    """
    pairs = [_pair(each) for each in (merges if isinstance(merges, list) else [])]
    given = set(pairs)
    scores = [pieces[whole].score if whole in pieces else None for whole in map("".join, pairs)]
    if len(given) < len(pairs) or any(
        first is None or second is None or first < second for first, second in pairwise(scores)
    ):
        raise _differs("its merges are not in the order of the other's scores")
    wanted = {
        (text[:at], text[at:])
        for text in pieces
        for at in range(1, len(text))
        if text[:at] in pieces and text[at:] in pieces
    }
    for pair in sorted(given ^ wanted):
        three = [pieces.get(text) for text in (*pair, "".join(pair))]
        is_plain = all(one is not None and one.type == NORMAL for one in three)
        if pair in given or (is_plain and pieces["".join(pair)].score):
            raise _differs(f"its merge of {pair[0][:40]!a} and {pair[1][:40]!a}")


def _pair(merge: object) -> tuple[str, str]:
    """Return a merge, which has two forms: a list, and a text with a space between."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or [type(part) for part in parts] != [str, str]:
        raise _differs("its merges are not pairs of texts")
    return parts[0], parts[1]


def _differs(why: str) -> LockError:
    return _refusal(f"{NAME}, which Transformers reads, is not tokenizer.model, since {why}")


def _refusal(why: str) -> LockError:
    return LockError(
        f"the model's tokenizer cannot be converted: {why}",
        hint="docs/spec/convert.md says which files of a tokenizer are compared",
    )
