"""Make the table of aicert.audits.look_alikes again: `python -m tests.oracles.look_alikes FILE`.

FILE is `confusables.json` of the package confusable_homoglyphs 3.3.1, with the pairs of UTS 39. Run
this with Python 3.11: later versions know digits that were assigned after Unicode 14.
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
    """Return which single characters look alike, in both directions."""
    near: Near = defaultdict(set)
    for one, others in json.loads(path.read_text()).items():
        for other in others:
            if len(one) == len(other["c"]) == 1:
                near[one].add(other["c"])
                near[other["c"]].add(one)
    return near


def flat(character: str) -> str:
    """Return a character as folding leaves it before it replaces look-alikes."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(c for c in folded if unicodedata.category(c) not in ("Mn", "Me", "Cf"))


def letter(character: str, near: Near) -> str | None:
    """Return the first ASCII letter that the character, or else its capital, looks like."""
    for form in (character, character.upper()):
        alike = {flat(c) for c in near.get(form, ()) if c.isascii() and c.isalpha()}
        if alike:
            return min(alike)
    return None


def images(near: Near) -> dict[str, str]:
    """Return the character to which each one is folded."""
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
    """Map each remaining character to the first of its class."""
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
    """Return the lines of the module's table."""
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
