"""patterns/v1: find personal data that has a fixed form, with its checksum where it has one.

No match means "0 matches of patterns/v1", never "no personal data": names and addresses have no
fixed form. Full-width characters and decimal digits of other scripts are read as their ASCII forms.

| name | form |
| --- | --- |
| `card` | 13 to 19 digits, with spaces or hyphens between, the first 2 to 6, Luhn's checksum |
| `email` | an address whose domain has two labels or more, the last of letters only |
| `iban` | ISO 13616: two letters, then 13 to 32 letters and digits; remainder 1 modulo 97 |
| `phone` | E.164 with its `+`: 8 to 15 digits, with spaces, dots, hyphens and brackets between |
| `ssn` | of the US: 3, 2 and 4 digits with hyphens, in groups that are in use |
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Final

from aicert.audits.look_alikes import LOOK_ALIKES

NAMES: Final = ("card", "email", "iban", "phone", "ssn")
_BETWEEN = str.maketrans("", "", " -")
_DIGITS = {ord(source): target for source, target in LOOK_ALIKES.items() if target.isdecimal()}
_INVISIBLE = dict.fromkeys((0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF))
_PLAIN = _DIGITS | _INVISIBLE
# The length of each country's account numbers (SWIFT's registry of ISO 13616).
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
# Each search first finds what is rare in texts (an at sign, a plus sign, the beginning of a number)
# and then looks at a dozen characters or so from there.
_EMAIL = re.compile(r"(?<=[\w.%+'-])@(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,63}+(?!\w|\.\w)")
_PHONE = re.compile(r"\+(?=([0-9(][0-9 ().-]{6,30}))")
_NUMBER = re.compile(r"[0-9](?<![0-9].)")
_CARD = re.compile(r"[2-6](?:[ -]?[0-9]){12,18}+(?![0-9])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,28}+")
_SSN = re.compile(r"(?<!-)(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![0-9-])")
_CARD_DIGITS: Final = 13
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_PHONE_DIGITS: Final = range(8, 16)


def patterns_in(text: str) -> tuple[str, ...]:
    """Return the names of the patterns that a text matches, sorted."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    names = set()
    if "@" in text and _EMAIL.search(text):
        names.add("email")
    if "+" in text and any(_is_phone(match[1]) for match in _PHONE.finditer(text)):
        names.add("phone")
    for number in _NUMBER.finditer(text):
        for name, letters, pattern, holds in _OF_NUMBERS:
            if name not in names:
                matched = pattern.match(text, number.start() - letters)
                if matched is not None and holds(matched[0]):
                    names.add(name)
    return tuple(sorted(names))


def _is_card(text: str) -> bool:
    """Return whether all digits, or those up to a gap, have Luhn's checksum.

    ISO/IEC 7812-1, annex B.
    """
    # One sum for each parity of the number's length, which decides which digits are doubled.
    sums = [0, 0]
    count = 0
    for character in f"{text} ":
        if character.isdecimal():
            digit = int(character)
            sums[count & 1] += _DOUBLED[digit]
            sums[~count & 1] += digit
            count += 1
        elif count >= _CARD_DIGITS and sums[count & 1] % 10 == 0:
            return True
    return False


def _is_iban(text: str) -> bool:
    """Return whether the first characters, as many as the country's IBANs have, check out.

    The checksum is MOD 97-10 of ISO 7064.
    """
    code = text.translate(_BETWEEN)
    length = _IBAN_LENGTHS.get(code[:2].upper())
    if length is None or len(code) < length:
        return False
    number = "".join(str(int(character, 36)) for character in code[4:length] + code[:4])
    return int(number) % 97 == 1


def _is_phone(text: str) -> bool:
    """Return whether E.164 allows that many digits: all of them, or those up to a gap."""
    count = 0
    for character in f"{text} ":
        if character.isdecimal():
            count += 1
        elif count in _PHONE_DIGITS:
            return text[0] != "0"
    return False


# For each pattern: its name, how many letters precede the number, its form, and a further check.
_OF_NUMBERS: tuple[tuple[str, int, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("card", 0, _CARD, _is_card),
    ("iban", 2, _IBAN, _is_iban),
    ("ssn", 0, _SSN, bool),
)
