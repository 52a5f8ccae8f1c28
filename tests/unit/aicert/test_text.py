"""Hostile text: one escaper, for tables, progress, reviews, pages and cards alike."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aicert import text
from aicert.errors import EvidenceError
from aicert.formats.paths import check_path

GREEN, PLAIN = "\x1b[32m", "\x1b[0m"

# Characters that a terminal, a browser or a reader would not show.
HIDDEN = {
    "end of a line": "\n",
    "back to the beginning": "\r",
    "escape": "\x1b",
    "bell": "\x07",
    "delete": "\x7f",
    "control of eight bits": "\x9b",
    "line separator": "\u2028",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000",
    "soft hyphen": "\u00ad",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "right-to-left override": "\u202e",
    "right-to-left isolate": "\u2067",
    "right-to-left mark": "\u200f",
    "tag letter": "\U000e0041",
    "letter of Hebrew": "\u05d0",
    "letter of Arabic": "\u0627",
    "digit of Arabic": "\u0661",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Hangul Jungseong filler": "\u1160",
    "braille blank": "\u2800",
    "variation selector": "\ufe0f",
    "variation selector supplement": "\U000e0100",
    "combining grapheme joiner": "\u034f",
    "Mongolian variation selector": "\u180b",
    "vowel of Khmer that nothing shows": "\u17b4",
    "note without a head": "\U0001d159",
    "filler of Khitan": "\U00016fe4",
    "stroke through the letter": "\u0336",
    "circle around the letter": "\u20dd",
    "surrogate": "\ud800",
    "private use": "\ue000",
    "not assigned": "\u0378",
}


def escape(character: str) -> str:
    return ascii(character)[1:-1]


@pytest.mark.parametrize("character", HIDDEN.values(), ids=HIDDEN)
def test_what_moves_hides_or_covers_text_is_escaped(character: str) -> None:
    assert text.safe(f"a{character}b\u00e9") == f"a{escape(character)}b\u00e9"


@pytest.mark.parametrize(
    "plain",
    [
        "",
        "Trained über 40 steps",
        "naïve",
        "e\u0301\u0302",
        "漢字 かな 한글",
        "हिन्दी",
        "→ … ≤ ±",
        "C:\\x1b 'quoted'",
    ],
)
def test_what_is_seen_as_it_is_stays(plain: str) -> None:
    assert text.safe(plain) == plain


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        # Two of a stack of marks stay; a mark without a letter would join the character before it.
        ("e" + "\u0301" * 4, "e\u0301\u0301\\u0301\\u0301"),
        ("\u0301a", "\\u0301a"),
        ("a \u0301", "a \\u0301"),
        ("\u200b\u0301", "\\u200b\\u0301"),
        ("a\x1b[2J\n\u202eb", "a\\x1b[2J\\n\\u202eb"),
    ],
)
def test_marks_join_only_their_letter(given: str, shown: str) -> None:
    assert text.safe(given) == shown


def test_a_cut_is_seen_and_leaves_escapes_whole() -> None:
    assert text.safe("x" * 500) == "x" * (text.MAX_LINE - 1) + "…"
    assert text.safe("é" * 10, 10) == "é" * 10
    assert text.safe("é" * 11, 10) == "é" * 9 + "…"
    assert text.safe("\u202e" * 3, 12) == "\\u202e…"
    assert text.safe("\u202e", 1) == "…"
    assert text.safe("xx", 1) == "…"


HOSTILE = st.text(
    st.one_of(st.characters(), st.sampled_from([*HIDDEN.values(), "\u0301", "a", " "]))
)


@given(HOSTILE, st.integers(min_value=1, max_value=80))
@example("m", 1)
@example("\ud800\u202e\u0301" * 50, 80)
def test_any_text_is_one_bounded_line_without_tricks(hostile: str, limit: int) -> None:
    shown = text.safe(hostile, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert not set(shown) & set(HIDDEN.values())
    assert not {"R", "AL", "AN"} & {unicodedata.bidirectional(c) for c in shown}
    # Replace each mark by a NUL, which is never shown as itself.
    marked = "".join("\0" if unicodedata.category(c)[0] == "M" else c for c in shown)
    assert not marked.startswith("\0")
    assert " \0" not in marked
    assert "\0" * (text.MAX_MARKS + 1) not in marked
    # Escaping a text again that was not cut leaves it unchanged.
    assert text.safe(shown, limit) == shown


@given(st.characters())
def test_what_no_path_may_hold_is_shown_nowhere(character: str) -> None:
    try:
        check_path(f"a{character}b")
    except EvidenceError:
        if character not in "/\\" and unicodedata.is_normalized("NFC", f"a{character}b"):
            assert text.safe(f"a{character}b") != f"a{character}b"


def test_no_line_is_longer_than_the_terminal() -> None:
    line = "  ok      " + "word " * 30 + "end"
    assert text.fitted(f"{line}\n", None) == f"{line}\n"
    assert text.fitted("short\n\nlines\n", 80) == "short\n\nlines\n"
    first, *more = text.fitted(f"{line}\n", 80).splitlines()
    assert first.startswith("  ok      word")
    assert all(each.startswith(" " * 10 + "word") and len(each) <= 80 for each in more)
    # Letters of two columns, and style selectors, which take none.
    assert text.fitted("漢" * 40, 80) == "漢" * 40
    assert text.fitted("漢" * 41, 80) == "漢" * 40 + "\n" + " " * 10 + "漢"
    styled = f"{GREEN}{'x' * 80}{PLAIN}"
    assert text.fitted(styled, 80) == styled
    assert text.fitted("x" * 31, 5) == "x" * 30 + "\n" + " " * 10 + "x"


def test_an_error_has_few_lines_and_a_hint() -> None:
    many = text.error_lines("first\n" + "more\n" * 99, None)
    assert many.count("\n") == 1 + text.MAX_LINES
    assert many.endswith(f"       … and {99 + 1 - text.MAX_LINES + 1} more lines\n")
    short = "first\n" + "more\n" * (text.MAX_LINES - 1) + "last"
    assert text.error_lines(short, None).endswith("       more\n       last\n")
    # A command to paste is not cut.
    command = "mv " + "x" * 1000
    assert text.error_lines("a", command).endswith(f"\nhint: {command}\n")
    assert text.error_lines("a\x1b", "b\u05d0") == "error: a\\x1b\nhint: b\\u05d0\n"


def test_counted() -> None:
    assert [text.counted(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
