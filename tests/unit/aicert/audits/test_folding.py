"""Which texts fold to the same words, and what is counted."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.audits import folding
from aicert.audits.folding import words, words_and_mixed
from aicert.audits.look_alikes import LOOK_ALIKES

SENTENCE = "Modern corn is good for a naïve hero of Ham"


@pytest.mark.parametrize(
    "written",
    [
        SENTENCE.upper(),
        SENTENCE.replace(" ", ",  "),
        SENTENCE.replace(" ", "\u3000"),
        SENTENCE.replace("o", "o\u200b"),
        SENTENCE.replace("o", "o\u00ad"),
        SENTENCE.replace("o", "o\x07"),
        SENTENCE.replace("o", "o\u2060\u034f"),
        SENTENCE.replace("o", "\U000e006f\U000e0020o"),
        SENTENCE.replace("o", "\u3164o"),
        SENTENCE.replace("o", "o\u0336"),
        SENTENCE.replace("o", "o\ue000"),
        SENTENCE.replace("o", "\u043e"),
        SENTENCE.replace("o", "0"),
        SENTENCE.replace("H", "\u041d"),
        SENTENCE.replace("a", "\u0430"),
        SENTENCE.replace("rn", "m"),
        SENTENCE.replace("e", "\u212f"),
        unicodedata.normalize("NFD", SENTENCE),
        "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in SENTENCE),
        "".join(chr(ord(c) + 0x1D3B9) if "a" <= c <= "z" else c for c in SENTENCE),
    ],
)
def test_what_looks_the_same_folds_to_the_same_words(written: str) -> None:
    assert written != SENTENCE
    assert words(written) == words(SENTENCE)
    assert len(words(SENTENCE)) == 10


def test_the_case_of_every_script_is_folded() -> None:
    for sentence in ("Ночь на вокзале Чего", "Γειά σου Κόσμε ΥΝΗ", "Բարեւ Աշխարհ", "ᎣᏏᏲ"):
        assert words(sentence.upper()) == words(sentence.lower()) == words(sentence)


def test_characters_of_scripts_without_spaces_are_words() -> None:
    assert words("吾輩は猫である。名前はまだ無い") == list("吾輩は猫てある名前はまた無い")
    assert len(words("ภาษาไทย")) == 7
    assert words("ab猫cd") == ["ab", "猫", "cd"]
    assert words("ｶﾞ") == words("ガ") == ["カ"]


def test_lines_and_controls_between_words_part_them() -> None:
    assert words("a\nb\tc\rd\x0be\x85f\u2028g\u00a0h_i-j") == list("abcdefghij")


@given(st.text(st.characters(max_codepoint=127)))
def test_the_short_way_of_ascii_gives_the_same_words(text: str) -> None:
    # The character beyond ASCII is a separate word at the end.
    assert words(f"{text} \u732b") == [*words(text), "\u732b"]


@given(st.text())
def test_words_are_folded_once_and_for_all(text: str) -> None:
    for word in words(text):
        assert word
        assert " " not in word


def test_words_of_mixed_letters_are_counted() -> None:
    assert words_and_mixed("plain words 10")[1] == 0
    assert words_and_mixed("naïve Ночь на")[1] == 0
    assert words_and_mixed("p\u0430ypal is p\u0430yp\u0430l, \u0440\u0430")[1] == 2


def test_every_look_alike_is_one_character_that_is_folded_once() -> None:
    for source, target in LOOK_ALIKES.items():
        assert len(source) == len(target) == 1
        assert not source.isascii()
        assert target not in LOOK_ALIKES
        assert target.isalnum()
    assert len(LOOK_ALIKES) > 1000


def test_whole_planes_are_folded() -> None:
    for start in range(0, 0x3FFF, 0x1000):
        text = "".join(map(chr, range(start, start + 0x1000)))
        assert isinstance(folding.words(text), list)
