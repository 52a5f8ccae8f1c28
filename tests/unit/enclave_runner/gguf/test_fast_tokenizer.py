from typing import Any

import pytest

from aicert.errors import LockError
from enclave_runner.gguf import fast_tokenizer, pieces
from enclave_runner.gguf.pieces import Piece
from tests.unit.enclave_runner.gguf.model import PIECES, piece, tokenizer
from tests.unit.enclave_runner.gguf.model import fast_tokenizer as written

# "▁a" is made of the two before it, "▁ab" of two pairs; the last is its user's.
MORE = (
    *PIECES[:4],
    *(piece(text, -9) for text in ("\u2581", "a", "b")),
    piece("\u2581a", -1), piece("ab", -2), piece("\u2581ab", -6), piece("\u2581aa", -7, 4),
)  # fmt: skip
MERGES = [["\u2581", "a"], ["a", "b"], ["\u2581", "ab"], ["\u2581a", "b"]]
OWN = pieces.read(tokenizer(*MORE))


def check(own: tuple[Piece, ...] = OWN, **changes: Any) -> None:
    changes = {"merges": MERGES, **changes}
    first = {number: each.text for number, each in enumerate(own) if each.type in (2, 3, 4)}
    fast_tokenizer.check(written(own, **changes), own, first)


def test_what_transformers_writes_is_accepted() -> None:
    check()
    # The older form.
    prepend = {"type": "Prepend", "prepend": "\u2581"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    check(
        merges=[" ".join(each) for each in MERGES],
        normalizer={"type": "Sequence", "normalizers": [prepend, replace]},
        pre_tokenizer=None,
    )
    check(merges=[*MERGES, ["\u2581a", "a"]])
    check(added=({"id": 2, "content": "</s>"},))


def test_a_merge_without_a_score_may_be_missing() -> None:
    own = pieces.read(tokenizer(*PIECES[:4], piece("a"), piece("aa", -0.0)))
    check(own, merges=[])
    check(own, merges=[["a", "a"]])


def test_bytes_are_fallen_back_to_if_there_are_any() -> None:
    own = pieces.read(tokenizer(*PIECES[:3], piece("a")))
    check(own, merges=[], byte_fallback=False)
    with pytest.raises(LockError, match="only one of them falls back to bytes"):
        check(own, merges=[], byte_fallback=True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dropout": 0.1}, "not plain BPE"),
        ({"type": "Unigram"}, "not plain BPE"),
        ({"ignore_merges": True}, "not plain BPE"),
        ({"byte_fallback": False}, "only one of them falls back"),
        ({"normalizer": {"type": "Lowercase"}}, "changes or splits texts"),
        ({"pre_tokenizer": None}, "changes or splits texts"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "changes or splits texts"),
        ({"vocab": {"a": 0}}, "its vocabulary is not"),
        ({"added": None}, "its added token 'None'"),
        ({"added": ({"id": 2, "content": "a"},)}, "its added token 'a'"),
        ({"added": ({"id": 99, "content": "a"},)}, "its added token 'a'"),
        ({"added": ({"id": True, "content": "<s>"},)}, "its added token '<s>'"),
        # An ordinary piece, at which every text would be split.
        ({"added": ({"id": 5, "content": "a"},)}, "its added token 'a'"),
        ({"added": ({"id": 2, "content": "</s>", "lstrip": True},)}, "its added token '</s>'"),
        ({"merges": None}, "its merge of"),
        ({"merges": MERGES[:-1]}, "its merge of '.u2581a' and 'b'"),
        ({"merges": MERGES[::-1]}, "in the order"),
        ({"merges": [*MERGES, MERGES[-1]]}, "in the order"),
        ({"merges": [*MERGES, ["a", "a"]]}, "in the order"),
        ({"merges": [["a", "a"]]}, "its merge of 'a' and 'a'"),
        ({"merges": [*MERGES, "a"]}, "not pairs"),
        ({"merges": [*MERGES, [1, "a"]]}, "not pairs"),
        ({"merges": [*MERGES, 1]}, "not pairs"),
    ],
)
def test_another_tokenizer_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(LockError, match=why):
        check(**changes)


def test_a_document_without_a_model_is_refused() -> None:
    with pytest.raises(LockError, match="not plain BPE"):
        fast_tokenizer.check({}, OWN, {})


def test_pieces_that_occur_twice_are_refused() -> None:
    own = pieces.read(tokenizer(*PIECES[:4], piece("a"), piece("a")))
    with pytest.raises(LockError, match="its vocabulary is not"):
        check(own, merges=[])


@pytest.mark.parametrize(
    ("paths", "settings"),
    [
        (["tekken.json"], {}),
        (["additional_chat_templates/tool_use.jinja"], {}),
        ([], {"tokenizer_class": "GPT2Tokenizer"}),
        ([], {"tokenizer_class": ["LlamaTokenizer"]}),
    ],
)
def test_other_files_of_a_tokenizer_are_refused(paths: list[str], settings: dict[str, Any]) -> None:
    with pytest.raises(LockError, match="the model's tokenizer cannot be converted"):
        fast_tokenizer.check_files(paths, settings)
    fast_tokenizer.check_files(["config.json"], {"tokenizer_class": "LlamaTokenizer"})
