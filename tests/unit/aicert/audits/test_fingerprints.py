"""Fingerprints: the guarantee of winnowing, a second implementation, and the table of evasions."""

import base64
import unicodedata
from collections.abc import Callable
from random import Random

import pytest

from aicert.audits import fingerprints
from aicert.audits.fingerprints import PASSAGE, RUN, WINDOW, Fingerprints, of_words
from aicert.audits.folding import words
from tests.second import tree as second_tree
from tests.unit.aicert.audits.texts import text

TEXTS = [text(seed) for seed in range(60)]


@pytest.mark.parametrize("length", [0, 1, 12, 13, 14, 49, 50, 51, 87, 88, 89, 126, 127, 300])
def test_fingerprints_are_the_second_implementations(length: int) -> None:
    listed = words(text(7, length))
    assert of_words(listed) == second_tree.fingerprints(listed)


def test_words_are_hashed_again_when_those_kept_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fingerprints, "_HASHES", fingerprints._Hashes())
    monkeypatch.setattr(fingerprints, "_MOST_KEPT", 3)
    listed = words(TEXTS[0])
    assert of_words(listed) == second_tree.fingerprints(listed)
    assert len(fingerprints._HASHES) <= 3


def test_a_shared_passage_of_fifty_words_is_always_found() -> None:
    assert PASSAGE == RUN + WINDOW - 1 == 50
    chance = Random(20)  # noqa: S311 - the same texts on every machine
    for _ in range(300):
        shared = text(chance.randrange(10**6), PASSAGE)
        both = [
            f"{text(chance.randrange(10**6), chance.randrange(120))} {shared} "
            f"{text(chance.randrange(10**6), chance.randrange(120))}"
            for _ in range(2)
        ]
        first, second = (of_words(words(each)) for each in both)
        assert first & second
        assert first & of_words(words(shared))


def test_a_shared_passage_of_thirty_words_is_not_always_found() -> None:
    matched = 0
    for seed in range(60):
        shared = text(seed + 1000, 30)
        first, second = (
            of_words(words(f"{text(seed + n, 100)} {shared} {text(seed + n + 1, 100)}"))
            for n in (2000, 3000)
        )
        matched += bool(first & second)
    assert 0 < matched < 60


def test_texts_without_a_common_passage_have_no_common_fingerprint() -> None:
    seen: set[int] = set()
    for each in TEXTS:
        mine = of_words(words(each))
        assert mine
        assert not mine & seen
        seen |= mine


def every(place: int) -> Callable[[str], str]:
    """Return a change that replaces one word in every `place`."""

    def change(text: str) -> str:
        return " ".join(
            "zzz" if i % place == place - 1 else word for i, word in enumerate(text.split())
        )

    return change


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def in_each_word(character: str) -> Callable[[str], str]:
    return lambda text: " ".join(word[:1] + character + word[1:] for word in text.split())


# How a passage is hidden, and in how many of the texts it is then found: all, some or none. `some`
# means that it is found only by chance; docs/spec/audit.md has the same in words.
EVASIONS: dict[str, tuple[Callable[[str], str], str]] = {
    "as it is": (str, "all"),
    "upper case": (str.upper, "all"),
    "full width": (full_width, "all"),
    "NFD": (lambda text: unicodedata.normalize("NFD", text), "all"),
    "punctuation between": (lambda text: text.replace(" ", ", "), "all"),
    "markup between": (lambda text: text.replace(" ", " <i></i> "), "none"),
    "zero width in each word": (in_each_word("\u200b"), "all"),
    "soft hyphen in each word": (in_each_word("\u00ad"), "all"),
    "tag characters in each word": (in_each_word("\U000e0041"), "all"),
    "marks on each word": (in_each_word("\u0336"), "all"),
    "a control in each word": (in_each_word("\x01"), "all"),
    "Hangul filler in each word": (in_each_word("\u3164"), "all"),
    "Cyrillic letters": (lambda text: text.translate({97: 0x430, 101: 0x435}), "all"),
    "Greek capitals": (lambda text: text.upper().replace("A", "\u0391"), "all"),
    "digits for letters": (lambda text: text.translate({111: "0", 108: "1"}), "all"),
    "lines broken": (lambda text: text.replace(" ", "\n"), "all"),
    "one word in 60": (every(60), "all"),
    "one word in 51": (every(51), "all"),
    "one word in 20": (every(20), "some"),
    "one word in 13": (every(13), "none"),
    "letters apart": (" ".join, "none"),
    "words joined": (lambda text: text.replace(" ", ""), "none"),
    "base64": (lambda text: base64.b64encode(text.encode()).decode(), "none"),
    "backwards": (lambda text: " ".join(reversed(text.split())), "none"),
}


@pytest.mark.parametrize("name", EVASIONS)
def test_evasions_are_found_or_known_not_to_be(name: str) -> None:
    hide, expected = EVASIONS[name]
    matched = sum(bool(of_words(words(hide(t))) & of_words(words(t))) for t in TEXTS)
    outcome = {0: "none", len(TEXTS): "all"}.get(matched, "some")
    assert outcome == expected, matched


def test_many_fingerprints_are_sorted_each_once() -> None:
    kept = Fingerprints()
    values = [2**64 - 1, 0, 5, 2**56, 5, 2**63]
    kept.add(values)
    kept.add([7])
    assert list(kept.sorted()) == sorted({*values, 7})
    assert list(kept.sorted()) == []
