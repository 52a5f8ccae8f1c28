"""Texts for tests: hashes choose their words, so that they are the same on every Python."""

import hashlib

CONSONANTS, VOWELS = "bdfgklmnprstvwz", "aeiou"


def word(number: int) -> str:
    """Return one of some 100,000 words without a meaning."""
    digest = hashlib.sha256(b"word %d" % number).digest()
    syllables = 2 + digest[0] % 3
    letters = (
        CONSONANTS[digest[2 * i + 1] % len(CONSONANTS)] + VOWELS[digest[2 * i + 2] % len(VOWELS)]
        for i in range(syllables)
    )
    return "".join(letters)


def text(seed: int, length: int = 150) -> str:
    """Return a text of `length` words; two different seeds give no passage in common."""
    numbers = (
        int.from_bytes(hashlib.sha256(b"text %d %d" % (seed, i)).digest()[:2], "big")
        for i in range(length)
    )
    return " ".join(map(word, numbers))
