"""Escape text that came from somebody else before a person reads it: the one place that does.

What a certificate, a machine or a server says is hostile. `safe` returns one line in which every
character is visible and stands where it was written; a web page or Markdown escapes its markup on
top of that. Nothing here decides anything. Imports nothing but the standard library.
"""

import re
import unicodedata

# Wide enough for a digest with its kind and a name; longer lines are cut.
MAX_LINE = 240
# Enough to name five files that differ, and more.
MAX_LINES = 12
# A command to paste is useless if it is cut, and its paths may be as long as paths can be.
MAX_HINT = 4096
# How many marks one letter may have above or below it; a tower of them would cover other lines.
# Scripts use up to two.
MAX_MARKS = 2
# The indent of lines after the first, which begin below the first one's words.
MARGIN = " " * 10
# No line is wrapped narrower than this; a narrower terminal wraps lines itself.
LEAST_ROOM = 30

# Letters and marks that are invisible: Default_Ignorable_Code_Point as far as `str.isprintable`
# calls them printable, and the braille blank. A pattern, since most texts never need it compiled.
IGNORABLE = (
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
# Blanks that are letters or symbols: hieroglyphs, Khitan, a note without a head.
_BLANK = "[\U00013441\U00013442\U00016fe4\U0001d159]"
# Letters that are written from right to left would move what is beside them.
_RIGHT_TO_LEFT = ("R", "AL", "AN")
# Unicode's combining class of marks that strike a letter through: nobody could read FAILED then.
_OVERLAY = 1
_STYLE = re.compile("\x1b\\[[0-9]*m")


def safe(text: str, limit: int = MAX_LINE) -> str:
    """Return `text` as one line of at most `limit` characters, each visible where it stands.

    It escapes controls, line ends, spaces that are not the plain one, invisible characters, letters
    that are written from right to left, and marks that have no letter or cover it.
    """
    if text.isascii() and text.isprintable():
        return text if len(text) <= limit else text[: limit - 1] + "…"
    pieces: list[str] = []
    length = 0
    # A mark at the beginning, or after a space or an escape, would join what is not its letter.
    marks = MAX_MARKS
    for character in text:
        if unicodedata.category(character).startswith("M"):
            marks += 1
            is_shown = marks <= MAX_MARKS and _stays_in_place(character)
        else:
            is_shown = _stays_in_place(character)
            marks = 0 if is_shown and character != " " else MAX_MARKS
        pieces.append(character if is_shown else _escaped(character))
        length += len(pieces[-1])
        if length > limit:
            while length > limit - 1:
                length -= len(pieces.pop())
            return "".join(pieces) + "…"
    return "".join(pieces)


def _stays_in_place(character: str) -> bool:
    """Return whether a terminal shows the character as itself.

    Such a character neither moves nor covers its neighbours.
    """
    # False for the categories Cc, Cf, Cs, Co, Cn, Zl, Zp, and for Zs except the plain space.
    if not character.isprintable() or re.fullmatch(f"{IGNORABLE}|{_BLANK}", character):
        return False
    if unicodedata.category(character) == "Me" or unicodedata.combining(character) == _OVERLAY:
        return False
    return unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def fitted(text: str, columns: int | None) -> str:
    """Return `text` wrapped to `columns`, or as it is if that is None.

    A terminal of that width then breaks no line itself: hostile text at the beginning of a broken
    line could look like a verdict.
    """
    if columns is None:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        wide = any(unicodedata.east_asian_width(c) in "WF" for c in line)
        # In a line with letters that are two columns wide, count two for every letter.
        room = max(columns, LEAST_ROOM) // (1 + wide)
        if len(_STYLE.sub("", line)) <= room:
            lines.append(line)
            continue
        import textwrap

        lines += textwrap.wrap(line, room, subsequent_indent=MARGIN, break_on_hyphens=False)
    return "\n".join(lines)


def error_lines(message: str, hint: str | None) -> str:
    """Return an error as the command line shows it; further lines of the message are indented."""
    first, *more = message.split("\n")
    if len(more) > MAX_LINES:
        more[MAX_LINES - 1 :] = [f"… and {len(more) - MAX_LINES + 1} more lines"]
    lines = [f"error: {safe(first)}", *(f"       {safe(line)}" for line in more)]
    if hint is not None:
        lines.append(f"hint: {safe(hint, MAX_HINT)}")
    return "\n".join(lines) + "\n"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 file`, `5 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
