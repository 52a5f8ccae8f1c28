"""Count how many of the trained tokens come from templates and not from a row.

A token comes from a row if its characters are in a text of that row. Characters are compared
without white space, case and compatibility forms (NFKC), because tokenizers change these. A text of
a row covers a stretch of the tokens' text once: as a whole if it is short, and in pieces of at
least `PIECE` characters if it is long, so that windows cut from rows, and trimmed rows, are
recognised. Two errors remain: words of a template that also occur in a row count as the row's; text
that a normalizer rewrites, and an end-of-text token, count as the template's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

# The text of one token, or of several that only together make a character, and their number.
Piece = tuple[str, int]

PIECE = 8
# The most occurrences of a stretch that are tried: it matters little which one is taken, and trying
# all would be slow.
_PLACES = 16
_BETWEEN = "\0"


def count(runs: Sequence[Sequence[Piece]], texts: Iterable[str]) -> int:
    """Return how many tokens of `runs` (runs of adjacent tokens) no text of the row covers."""
    squeezed = [[squeeze(text) for text, _ in run] for run in runs]
    stream = _BETWEEN.join("".join(run) for run in squeezed)
    covered = bytearray(len(stream))
    places = _places(stream)
    for text in sorted((squeeze(text) for text in texts), key=len, reverse=True):
        if len(text) >= PIECE:
            _cover_pieces(text, stream, places, covered)
        elif text:
            _cover_whole(text, stream, covered)
    total, at = 0, 0
    for run, names in zip(runs, squeezed, strict=True):
        of_template = True
        for (whole, tokens), text in zip(run, names, strict=True):
            # White space belongs to the text before it; a token without text belongs to no row.
            if text or not whole:
                of_template = not text or 2 * sum(covered[at : at + len(text)]) < len(text)
            at += len(text)
            total += tokens if of_template else 0
        at += len(_BETWEEN)
    return total


def squeeze(text: str) -> str:
    """Return a text without white space, case and compatibility forms, for comparing."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def texts_of(value: object, *, numbers: bool = True) -> Iterator[str]:
    """Yield every string in a row, at any depth, and every number as text if these are wanted."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, str):
            yield each
        elif numbers and isinstance(each, (int, float)) and not isinstance(each, bool):
            yield str(each)


def _places(stream: str) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for at in range(len(stream) - PIECE + 1):
        positions = places.setdefault(stream[at : at + PIECE], [])
        if len(positions) < _PLACES:
            positions.append(at)
    return places


def _cover_pieces(text: str, stream: str, places: dict[str, list[int]], covered: bytearray) -> None:
    at = 0
    while at <= len(text) - PIECE:
        best, length = 0, 0
        for place in places.get(text[at : at + PIECE], ()):
            same = _same(text, at, stream, place)
            # Stretches that another text already covers come last.
            if (not covered[place], same) > (length > 0 and not covered[best], length):
                best, length = place, same
        covered[best : best + length] = b"\1" * length
        at += length or 1


def _same(text: str, at: int, stream: str, place: int) -> int:
    """Return how many characters match from these places on; the first PIECE are known to."""
    most = min(len(text) - at, len(stream) - place)
    length = PIECE
    while length < most and text[at + length] == stream[place + length]:
        length += 1
    return length


def _cover_whole(text: str, stream: str, covered: bytearray) -> None:
    at = stream.find(text)
    while at >= 0:
        if not any(covered[at : at + len(text)]):
            covered[at : at + len(text)] = b"\1" * len(text)
            return
        at = stream.find(text, at + 1)
