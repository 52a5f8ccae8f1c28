"""patterns/v1: each kind in its forms, and text that only resembles it."""

import pytest

from aicert.audits.patterns import NAMES, patterns_in


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("card", "card 4111111111111111."),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500-0000-0000-0004"),
        ("card", "paid 22 4111 1111 1111 1111 5 times"),
        ("card", "\uff14111\u200b111111111111"),
        ("card", "x4000000000000002x"),
        ("email", "write to jane.doe+x@example.org."),
        ("email", "JANE@EXAMPLE.CO.UK"),
        ("email", "jane＠example.org"),
        ("email", "jörg@bücher.example"),
        ("email", "<a-b@c-d.example>"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "gb82west12345698765432 and words behind"),
        ("iban", "NO93 8601 1117 947"),
        ("phone", "call +49 170 1234567"),
        ("phone", "+1 (202) 555-0143"),
        ("phone", "+441632960961,"),
        ("phone", "++ +33.1.23.45.67.89"),
        ("ssn", "SSN 123-45-6789"),
    ],
)
def test_each_kind_is_found(name: str, text: str) -> None:
    assert name in NAMES
    assert name in patterns_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "plain words, no number", "4111 1111 1111 1112", "1234567890123456",
        "41111111111111111111111", "a@b", "@example.org x", "at @ example.org", "user@host.1x",
        "NO93 8601 1117 948", "DE89 3704", "ZZ89 3704 0044 0532 0130 00", "XDE89 3704",
        "+0 170 1234567", "+12", "+1234567890123456789012345", "1 + 1 = 2 or 22",
        "000-45-6789", "666-45-6789", "923-45-6789", "123-00-6789", "123-45-0000",
        "1123-45-6789", "123-45-67890",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert patterns_in(text) == ()


def test_all_that_a_text_has_is_named_once() -> None:
    text = "a@b.org a@b.org 123-45-6789 +49 170 1234567 4111111111111111 NO93 8601 1117 947"
    assert patterns_in(text) == NAMES


@pytest.mark.parametrize("part", ["4", "4 ", "a@", "@a.", "DE12", "DE12 A", "+1", "+1(", "1-", "a"])
def test_time_is_linear(part: str) -> None:
    """A quadratic search of so many characters would not end today."""
    patterns_in(part * (20_000 // len(part)) + "@22+")
