"""Text that came from a certificate, on its way into Markdown."""

from aicert.text import safe

MOST = 200


def plain(text: str) -> str:
    """Text that stays inside a code span of a table cell."""
    return "".join(c if c not in "`|<>" else "?" for c in safe(text, MOST))


def code(text: object) -> str:
    """A code span, which nothing in `text` can end."""
    return f"`{plain(str(text))}`"
