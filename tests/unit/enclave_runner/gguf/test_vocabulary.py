"""What a GGUF file must say of a tokenizer, from SentencePiece's file and those beside it."""

from typing import Any

import pytest

from aicert.errors import EvidenceError, LockError
from aicert.formats.gguf import Value
from enclave_runner.gguf import pieces, vocabulary
from enclave_runner.gguf.pieces import Piece
from tests.unit.enclave_runner.gguf import model

TOKENIZER = model.tokenizer(*model.PIECES, model.piece("user", -2, 4), model.piece("gone", 0, 5))


def values(size: int = 12, **given: Any) -> dict[str, Value]:
    arguments: dict[str, Any] = {
        "model": TOKENIZER, "config": {}, "settings": {}, "added": {}, "template": None,
    } | given  # fmt: skip
    return vocabulary.values(size, **arguments)


def test_tokens_come_from_three_files() -> None:
    entries = {
        "5": {"content": "chosen", "special": False},
        "8": {"content": "<|end|>"},
        "9": {"content": "\u2581spaced", "special": False},
        "10": {"content": "control", "special": True},
        "11": {"content": "<unused1>"},
    }
    written = values(added={"added": 7, "<mask>": 8}, settings={"added_tokens_decoder": entries})
    assert written["tokenizer.ggml.tokens"].data == (
        "<unk>", "<s>", "</s>", "<0x0A>", "\u2581a", "chosen", "gone", "added", "<|end|>",
        " spaced", "control", "<unused1>",
    )  # fmt: skip
    assert written["tokenizer.ggml.token_type"].data == (2, 3, 3, 6, 1, 4, 5, 4, 3, 4, 3, 3)
    assert written["tokenizer.ggml.scores"].data == (0, 0, 0, 0, -1.5, *(-1000,), 0, *(-1000,) * 5)
    # A piece that its user defined is an ordinary token for the converter.
    assert values()["tokenizer.ggml.token_type"].data == (2, 3, 3, 6, 1, 1, 5, *(5,) * 5)
    assert values()["tokenizer.ggml.tokens"].data[-1:] == ("[PAD11]",)  # type: ignore[index]


def test_numbers_and_switches_of_special_tokens() -> None:
    config = {"bos_token_id": 1, "unk_token_id": 0, "pad_token_id": None, "sep_token_id": 3}
    settings = {"add_bos_token": True, "add_eos_token": False, "add_prefix_space": True}
    written = values(config=config, settings=settings)
    special = {
        key.removeprefix("tokenizer.ggml."): value.data
        for key, value in written.items()
        if value.type in ("UINT32", "BOOL")
    }
    assert special == {
        "bos_token_id": 1, "unknown_token_id": 0, "seperator_token_id": 3,
        "add_bos_token": True, "add_eos_token": False, "add_space_prefix": True,
    }  # fmt: skip


def test_the_template_is_the_settings_or_the_one_beside_them() -> None:
    key = "tokenizer.chat_template"
    assert values(settings={"a": 1}, template="beside")[key].data == "beside"
    assert values(settings={"chat_template": "own"}, template="own")[key].data == "own"
    # Transformers reads the one beside, the converter that of the settings.
    for settings in ({}, {"chat_template": None}, {"chat_template": "own"}):
        with pytest.raises(LockError, match=r"chat_template\.jinja, which Transformers reads"):
            values(settings=settings, template="beside")
    assert key not in values(settings={"a": 1})


@pytest.mark.parametrize("size", [32016, 49152])
def test_sizes_for_which_the_converter_guesses_are_refused(size: int) -> None:
    with pytest.raises(LockError, match="one for which the converter guesses"):
        values(size)


def test_pieces_are_read() -> None:
    others = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x22\x03abc"
    spec = model.field(2, others + b"\x18\x02")
    read = pieces.read(b"".join((model.piece("a", 0.5), spec, model.field(3, b""))))
    assert read == (Piece(text="a", score=0.5, type=1),)


def test_fields_of_another_kind_are_passed_over() -> None:
    odd = b"\x08\x01" + b"\x10\x01" + b"\x1a\x01a" + model.field(2, b"abc")
    data = model.tokenizer(model.field(1, odd + model.field(1, b"a")), b"\x08\x01")
    assert pieces.read(data) == (Piece(text="a", score=0.0, type=1),)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "without tokens"),
        (b"\x0a", "a number that ends early"),
        (b"\x0a\xff", "a number that ends early"),
        (b"\x80" * 11, "a number that ends early"),
        (b"\x0a\x05abc", "a field that ends early"),
        (b"\x0b", "a field of an unknown kind, 3"),
        (model.piece("a", 0, 9), "a token of an unknown type, number 9"),
        (model.field(1, model.field(1, b"\xff")), "a token that is not UTF-8"),
        (model.tokenizer(model.piece("a"), kind=b"\x18\x01"), "not BPE"),
        (model.piece("a"), "not BPE"),
        # SentencePiece takes the last of two, and passes over fields of another kind.
        (model.tokenizer(model.piece("a"), kind=b"\x18\x02\x18\x01"), "not BPE"),
        (model.piece("a") + b"\x15\x18\x02\x18\x02", "not BPE"),
        (model.tokenizer(model.piece("a"), kind=b"\x1a\x01\x02"), "not BPE"),
    ],
)
def test_other_files_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        pieces.read(data)


def test_too_many_tokens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_PIECES", 2)
    with pytest.raises(EvidenceError, match="of more than 2 tokens"):
        pieces.read(model.piece("a") * 3)
