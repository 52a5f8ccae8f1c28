"""Folding: texts that look the same to a reader give the same words (docs/spec/audit.md).

NFKD and case folding are applied twice; marks, controls and invisible characters are dropped;
look-alikes become one character (UTS 39); a run of letters and digits is a word, and in a script
without spaces each character is a word. Plain ASCII takes a shortcut to the same words.

The tables come from the version of Unicode in this Python (`UNICODE`). Code points that a later
version assigns may fold differently, so results name the version.
"""

import re
import unicodedata
from typing import Final

from aicert.audits.look_alikes import LOOK_ALIKES
from aicert.text import IGNORABLE

UNICODE: Final = unicodedata.unidata_version
# A run of letters longer than this is no word: somebody may have removed the spaces.
LONG_WORD: Final = 40
# Han, kana, Thai, Lao, Myanmar and Khmer (Unicode's Scripts.txt, whole blocks).
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3021-\u3029\u3038-\u303b"
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_INVISIBLE = re.compile(IGNORABLE)
_SPACES = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f \x85")
# Two letters that look like one, and two digits that look like letters.
_PAIR, _ONE = "rn", "m"
_LETTERS = {"0": "o", "1": "l"}


class _Characters(dict[int, str]):
    """A cache of what each character becomes before look-alikes are replaced.

    A character becomes itself (with spaces around it in a script without spaces), nothing, or a
    space.
    """

    def __missing__(self, code: int) -> str:
        self[code] = image = _image(chr(code))
        return image


def _image(character: str) -> str:
    if _WITHOUT_SPACES.match(character):
        return f" {character} " if character.isalnum() else ""
    if character.isalnum():
        return "" if _INVISIBLE.match(character) else character
    if character in _SPACES:
        return " "
    # Marks, controls, format characters (which include tags), and code points without a character.
    is_dropped = unicodedata.category(character)[0] in "MC" or _INVISIBLE.match(character)
    return "" if is_dropped else " "


_CHARACTERS = _Characters()
_PLAIN = {code: _image(chr(code)).lower() for code in range(128)}
_PLAIN |= {ord(digit): letter for digit, letter in _LETTERS.items()}
_ALIKE = {ord(source): _LETTERS.get(target, target) for source, target in LOOK_ALIKES.items()}
_ALIKE |= {ord(digit): letter for digit, letter in _LETTERS.items()}
_LATIN = re.compile("[a-z]")
_FOREIGN = re.compile(f"[{''.join(s for s, t in LOOK_ALIKES.items() if t.isascii())}]")


def words(text: str) -> list[str]:
    """Return the folded words of a text, in order."""
    return words_and_mixed(text)[0]


def words_and_mixed(text: str) -> tuple[list[str], int]:
    """Return the folded words of a text, and how many of them are mixed.

    A mixed word has both ASCII letters and characters that look like ASCII letters.
    """
    if text.isascii():
        return text.translate(_PLAIN).replace(_PAIR, _ONE).split(), 0
    spelled = _spelled(text)
    mixed = 0
    if _FOREIGN.search(spelled):
        mixed = sum(bool(_LATIN.search(w) and _FOREIGN.search(w)) for w in spelled.split())
    return spelled.translate(_ALIKE).replace(_PAIR, _ONE).split(), mixed


def _spelled(text: str) -> str:
    """Return `text` in one case and without invisible characters, look-alikes still in place."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return folded.translate(_CHARACTERS)
