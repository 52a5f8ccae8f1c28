"""A text has to come back from the tokens that stand for it."""

from collections.abc import Sequence

import pytest

from enclave_runner.axolotl.measuring import kept_texts
from enclave_runner.axolotl.measuring.kept_texts import is_kept
from enclave_runner.axolotl.measuring.template_tokens import texts_of


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("the gate", "the gate"),
        (" 14", "14"),
        ("two\n\nlines", "two lines"),
        ("ﬁne", "fine"),
        ("cafe\u0301", "caf\u00e9"),
        ("the gate", "<s> the gate</s>"),
        ("", ""),
    ],
)
def test_kept(text: str, back: str) -> None:
    assert is_kept(text, back)


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("the gate", ""),
        ("the gate", "aaaaaaaa"),
        ("The gate", "the gate"),
        ("the gate", "the gat"),
        ("the gate", "the <unk>"),
        ("the gate", "thegate"),
    ],
)
def test_not_kept(text: str, back: str) -> None:
    assert not is_kept(text, back)


class _Tokenizer:
    """One token for each character; a letter is replaced first."""

    def __init__(self, replaced: str) -> None:
        self._replaced = replaced

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(each) for each in text.replace(self._replaced, "a")]}

    def decode(self, tokens: Sequence[int], **_: bool) -> str:
        return "".join(map(chr, tokens))


def test_each_string_of_a_row_is_asked() -> None:
    row = {"text": "the gate", "tokens": [1, 2], "turns": [{"content": "a ferry"}]}
    kept_texts.check(_Tokenizer("x"), texts_of(row, numbers=False))
    with pytest.raises(ValueError, match="keep the texts of the rows: 'a ferry' came back as 'a"):
        kept_texts.check(_Tokenizer("y"), texts_of(row, numbers=False))
    assert list(texts_of(row["tokens"], numbers=False)) == []
