"""The user's terminal: how wide lines may be, and where relative paths start."""

import os
import textwrap
from pathlib import Path

WIDTH = 80


def users_path(text: str) -> Path:
    """Return `text` as a path relative to where `./doit` was called, not to the repository."""
    return Path(os.environ.get("AICERT_INVOKED_FROM") or Path.cwd(), text)


def fitted(line: str) -> list[str]:
    """Wrap `line` to WIDTH, keeping its indent. Words are never cut, because users paste them."""
    under = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=under, break_long_words=False, break_on_hyphens=False
    )
