"""Which tokens count as a template's: those whose text is in no row."""

import time

import pytest

from enclave_runner.axolotl.measuring import template_tokens
from enclave_runner.axolotl.measuring.template_tokens import Piece


def run(text: str) -> list[Piece]:
    """Return a run of tokens: each word is one token, with the space before it."""
    words = text.split(" ")
    return [(word if not at else " " + word, 1) for at, word in enumerate(words)]


@pytest.mark.parametrize(
    ("trained", "texts", "expected"),
    [
        ("the answer is four </s>", ["the answer is four"], 1),
        ("the answer is four </s>", ["four"], 4),
        ("nothing of a row at all", ["something else entirely"], 6),
        # A tokenizer may change upper case, compatibility forms and white space.
        ("the ﬁrst LINE of text", ["The first\n line of  text "], 0),
        # Cut at both ends, as a window of a long text is.
        ("a long text that windows cut", ["This is a long text that windows cut in two"], 0),
        # Each occurrence needs a text of its own.
        ("yes yes yes", ["yes"], 2),
        ("yes yes yes", ["yes", "yes", "yes"], 0),
        ("repeated words repeated words", ["repeated words"], 2),
        ("repeated words repeated words", ["repeated words", "repeated words"], 0),
        ("", [], 1),
    ],
)
def test_tokens_that_no_text_covers_are_the_templates(
    trained: str, texts: list[str], expected: int
) -> None:
    assert template_tokens.count([run(trained)], texts) == expected


def test_white_space_belongs_to_what_stands_before_it() -> None:
    pieces: list[Piece] = [("<|im_start|>", 1), ("\n", 1), ("a word of a row", 4), ("\n\n", 1)]
    assert template_tokens.count([pieces], ["a word of a row"]) == 2


def test_tokens_that_say_nothing_are_the_templates() -> None:
    pieces: list[Piece] = [("a word of a row", 4), ("", 3), (" ", 1), ("", 1)]
    assert template_tokens.count([pieces], ["a word of a row"]) == 5


def test_a_text_does_not_reach_over_a_gap_of_tokens_that_are_not_trained() -> None:
    assert template_tokens.count([run("abcd efgh"), run("ijkl mnop")], ["efghijkl"]) == 4
    assert template_tokens.count([run("abcd efgh"), run("ijkl mnop")], ["abcdefghijklmnop"]) == 0


def test_pieces_of_several_tokens_count_as_many() -> None:
    assert template_tokens.count([[("é", 2), ("🙂", 4)]], ["é"]) == 4


def test_texts_are_found_at_any_depth_and_numbers_are_texts() -> None:
    row = {"a": ["one", {"b": "two", "c": None}], "d": 3, "e": 0.5, "f": True}
    assert sorted(template_tokens.texts_of(row)) == ["0.5", "3", "one", "two"]


@pytest.mark.parametrize("text", ["a" * 20_000, "ab" * 10_000, "abcdefgh" * 2_500])
def test_text_that_repeats_costs_no_more_than_a_moment(text: str) -> None:
    began = time.process_time()
    assert template_tokens.count([[(text, 5000)]], [text, text[:500], text[3:]]) == 0
    # A quadratic algorithm would take minutes.
    assert time.process_time() - began < 20
