"""Escape text from a certificate for Markdown."""

from aicert.text import safe

MOST = 200


def plain(text: str) -> str:
    """Return text that stays inside a code span of a table cell."""
    return "".join(c if c not in "`|<>" else "?" for c in safe(text, MOST))


def code(text: object) -> str:
    """Return a code span that nothing in `text` can end."""
    return f"`{plain(str(text))}`"
