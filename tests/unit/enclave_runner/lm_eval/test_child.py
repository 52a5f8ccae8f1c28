"""A text whose likelihood is asked for must come back from the tokens that were scored."""

import pytest

from enclave_runner.lm_eval.child import is_kept


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
