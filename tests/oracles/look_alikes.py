"""Makes the table of aicert.audits.look_alikes again: `python -m tests.oracles.look_alikes FILE`.

FILE is `confusables.json` of the package confusable_homoglyphs 3.3.1, with the pairs of UTS 39. Run
it with Python 3.11: later ones know digits that were assigned after Unicode 14.
"""

import json
import sys
import textwrap
import unicodedata
from collections import defaultdict
from pathlib import Path

from aicert.audits.folding import _WITHOUT_SPACES

WIDTH = 94
Near = dict[str, set[str]]


def pairs(path: Path) -> Near:
    """Which single characters look like which, both ways."""
    near: Near = defaultdict(set)
    for one, others in json.loads(path.read_text()).items():
        for other in others:
            if len(one) == len(other["c"]) == 1:
                near[one].add(other["c"])
                near[other["c"]].add(one)
    return near


def flat(character: str) -> str:
    """A character as folding leaves it, before look-alikes are."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(c for c in folded if unicodedata.category(c) not in ("Mn", "Me", "Cf"))


def letter(character: str, near: Near) -> str | None:
    """The first letter of ASCII that it looks like, itself or else its capital."""
    for form in (character, character.upper()):
        alike = {flat(c) for c in near.get(form, ()) if c.isascii() and c.isalpha()}
        if alike:
            return min(alike)
    return None


def images(near: Near) -> dict[str, str]:
    """What each character is folded to."""
    folded = {flat(c) for c in near}
    image: dict[str, str] = {}
    for character in sorted(folded):
        if len(character) == 1 and character.isalnum() and not character.isascii():
            target = letter(character, near)
            if target is not None:
                image[character] = target
    for code in range(128, sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) == "Nd" and flat(character) == character:
            image[character] = str(unicodedata.digit(character))
    return image | classes(near, image)


def classes(near: Near, image: dict[str, str]) -> dict[str, str]:
    """Of the rest, the first of each class."""
    first: dict[str, str] = {}

    def find(character: str) -> str:
        while first.setdefault(character, character) != character:
            character = first[character]
        return character

    def is_left(text: str) -> bool:
        return len(text) == 1 and text.isalnum() and not text.isascii() and text not in image

    for one, others in near.items():
        for other in others:
            if is_left(flat(one)) and is_left(flat(other)):
                low, high = sorted((find(flat(one)), find(flat(other))))
                first[high] = low
    return {character: find(character) for character in first if find(character) != character}


def table(image: dict[str, str]) -> str:
    """The lines of the module's table."""
    by_target: dict[str, list[str]] = defaultdict(list)
    for source, target in sorted(image.items()):
        if target.isdecimal() or not _WITHOUT_SPACES.match(source):
            by_target[target].append(source)
    lines = []
    for target, sources in sorted(by_target.items()):
        if not _WITHOUT_SPACES.match(target):
            codes = " ".join(f"{ord(c):x}" for c in (target, *sources))
            lines.append("\n  ".join(textwrap.wrap(codes, WIDTH)))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(images(pairs(Path(sys.argv[1])))))
