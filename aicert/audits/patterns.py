"""patterns/v1: kinds of personal data that have a form, with their checksums where they have one.

No match means "0 matches of patterns/v1", never "no personal data": names and addresses have no
form. Characters of other widths and decimal digits of other scripts are read as ASCII's.

| name | form |
| --- | --- |
| `card` | 13 to 19 digits, with spaces or hyphens between, first digit 2 to 6, Luhn's sum |
| `email` | an address with a domain of two labels or more, the last of letters |
| `iban` | ISO 13616: two letters, 13 to 32 further ones and digits, 97's remainder is 1 |
| `phone` | E.164 with its `+`: 8 to 15 digits, with spaces, dots, hyphens and brackets between |
| `ssn` | of the US: 3, 2 and 4 digits with hyphens, of a group that is given out |
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from aicert.audits.look_alikes import LOOK_ALIKES

NAMES: Final = ("card", "email", "iban", "phone", "ssn")
_GAPS: Final = " -.()"
_BETWEEN = str.maketrans("", "", _GAPS)
_DIGITS = {ord(source): target for source, target in LOOK_ALIKES.items() if target.isdecimal()}
_INVISIBLE = dict.fromkeys((0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF))
_PLAIN = _DIGITS | _INVISIBLE
# How long the account numbers of each country are (SWIFT's registry of ISO 13616).
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in (
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FO GL NL"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "LY PT ST"),
        (26, "IS TR"),
        (27, "FR GR IT MC MR SM"),
        (28, "AL AZ BY CY DO GT HU LB PL SV"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU"),
        (31, "MT SC"),
        (32, "LC"),
    )
    for country in countries.split()
}
# Each begins with what is rare in texts, since a search for it is fast, and looks at some dozen
# characters around each such place.
# Numbers may begin inside of others: those are looked at again.
_EMAIL = re.compile(r"(?<=[\w.%+'-])@(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,63}+(?!\w|\.\w)")
_CARD = re.compile(r"[2-6](?<![0-9].)(?=((?:[ -]?[0-9]){12,18}+)(?![0-9]))")
_IBAN = re.compile(
    r"[0-9](?<=[A-Za-z]{2}.)(?<![A-Za-z0-9]...)(?=([0-9](?:[ -]?[A-Za-z0-9]){11,28}+))"
)
_PHONE = re.compile(r"\+(?=([0-9(][0-9 ().-]{6,30}))")
_SSN = re.compile(r"[0-9](?<![0-9-].)[0-9]{2}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])")
_NO_SSN = ("000", "666", "9")
_TWO_DIGITS = re.compile("[0-9][0-9]")
_CARD_DIGITS: Final = 13
_PHONE_DIGITS: Final = range(8, 16)


def patterns_in(text: str) -> tuple[str, ...]:
    """The names of the patterns that a text matches, sorted."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    names = []
    has_digits = _TWO_DIGITS.search(text) is not None
    if has_digits and any(_is_card(match[0] + match[1]) for match in _CARD.finditer(text)):
        names.append("card")
    if "@" in text and _EMAIL.search(text):
        names.append("email")
    if has_digits and any(
        _is_iban(text[match.start() - 2 : match.end(1)]) for match in _IBAN.finditer(text)
    ):
        names.append("iban")
    if "+" in text and any(_is_phone(match[1]) for match in _PHONE.finditer(text)):
        names.append("phone")
    if has_digits and any(not m[0].startswith(_NO_SSN) for m in _SSN.finditer(text)):
        names.append("ssn")
    return tuple(names)


def _is_card(text: str) -> bool:
    """Luhn's sum (ISO/IEC 7812-1, annex B)."""
    return any(len(digits) >= _CARD_DIGITS and _luhn(digits) == 0 for digits in _up_to_gaps(text))


def _up_to_gaps(text: str) -> Iterator[str]:
    """All digits, and those up to each gap: another number may follow."""
    for place, character in enumerate(text):
        if character in _GAPS:
            yield text[:place].translate(_BETWEEN)
    yield text.translate(_BETWEEN)


def _luhn(digits: str) -> int:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10


def _is_iban(text: str) -> bool:
    """ISO 7064, MOD 97-10, of as many characters as the country has."""
    code = text.translate(_BETWEEN)
    length = _IBAN_LENGTHS.get(code[:2].upper())
    if length is None or len(code) < length:
        return False
    number = "".join(str(int(character, 36)) for character in code[4:length] + code[:4])
    return int(number) % 97 == 1


def _is_phone(text: str) -> bool:
    return text[0] != "0" and any(len(digits) in _PHONE_DIGITS for digits in _up_to_gaps(text))
